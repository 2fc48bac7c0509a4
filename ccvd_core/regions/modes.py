"""How regions are sampled: the modes as rows of a table, an artist's settings, and what they mean for each step.

A sampler may run only a part of a schedule: the first half of a split, the second of two experts, a video to change.
All it knows is its own noise levels. A share of the steps is therefore a noise level, the one that the model's schedule
has reached after that share of its steps, and a step takes part when it begins above it. So every split of a schedule
decides as the whole schedule does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError
from .merging import merge_strengths
from .regional_prompt import AnyPrompt, RegionalPrompt

MARGIN = 1.01e-3
"""Schedules are picked from a thousand noise levels, so a step may begin that share of the schedule too early."""
SAME_LEVEL = 1e-6


class Background(Enum):
    """What a region's own prediction sees outside its region."""

    LATENTS = "the latents as they are"
    COLOUR = "one plain colour, as noisy as they are"
    EMPTY_SCENE = "the scene without its regions, as noisy as they are"


def over_whole_frame(scene: RegionalPrompt) -> tuple[AnyPrompt, ...]:
    """Each region's prompt, as if it were the whole frame's."""
    return scene.prompts[1:]


def one_at_a_time(scene: RegionalPrompt) -> tuple[AnyPrompt, ...]:
    """For each region the scene with that region alone, by region attention."""
    return tuple(scene.only(region) for region in range(1, len(scene.prompts)))


@dataclass(frozen=True)
class Mode:
    """What is done about regions beside region attention, as one row of `MODES`.

    `own`: what each region's own prediction is made with; it is merged in while all shares of the schedule named in
    `merge_steps` last (none: never). What it sees outside the region is the `background` while all those named in
    `background_steps` last, and the latents before and after. `measured`: how much of a region is its own prediction
    depends on the attention that its concept got, else on `alpha` alone.
    """

    own: Callable[[RegionalPrompt], tuple[AnyPrompt, ...]] = over_whole_frame
    merge_steps: tuple[str, ...] = ()
    background: Background = Background.LATENTS
    background_steps: tuple[str, ...] = ()
    measured: bool = False


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        # Region attention alone, one model call per step.
        "attention": Mode(),
        # No other subject is there to compete for the region.
        "one at a time": Mode(
            one_at_a_time, ("region_steps",), Background.EMPTY_SCENE, background_steps=("region_steps",)
        ),
        # Attention-guided noise estimation, as CCVD and CIDM print it.
        "paper": Mode(over_whole_frame, ("region_steps",), measured=True),
        # The region's subject forms inside it (MultiDiffusion).
        "paper + bootstrap": Mode(
            over_whole_frame,
            ("region_steps",),
            Background.COLOUR,
            background_steps=("region_steps", "bootstrap_steps"),
            measured=True,
        ),
    }
)


@dataclass(frozen=True)
class RegionSettings:
    """How an artist wants regions sampled. Shares of the steps are shares of the model's whole schedule.

    `mode` is a row of `MODES`. `alpha` of the whole scene's prediction stays inside a region. `blend` softens the
    regions' edges, 0..1. In the first `contrast_steps` share, in any mode, the whole frame's prompt takes the negative
    prompt's place: the guidance then points from the empty scene to the scene with its subjects. Regions are predicted
    on their own in every `region_every`-th step, and in between stay what they were last predicted to be.
    """

    mode: str = "attention"
    region_steps: float = 0.6
    alpha: float = 0.1
    blend: float = 0.0
    bootstrap_steps: float = 0.2
    contrast_steps: float = 0.0
    region_every: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise CCVDError(f"The mode must be one of {', '.join(MODES)}; got {self.mode!r}.")
        if self.region_every < 1:
            raise CCVDError(f"region_every counts steps and must be 1 or more; got {self.region_every}.")
        for name in (field.name for field in fields(self) if field.name not in ("mode", "region_every")):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise CCVDError(f"The region setting {name} must be between 0 and 1; got {value}.")

    @property
    def row(self) -> Mode:
        return MODES[self.mode]

    @property
    def merges(self) -> bool:
        """Whether this mode predicts regions on their own."""
        return bool(self.row.merge_steps)

    def share(self, names: Sequence[str]) -> float:
        """Share of the steps in which all the settings `names` are in force; of none, 0."""
        return min((getattr(self, name) for name in names), default=0.0)

    def unreached(self, begun: float) -> str:
        """The settings, separated by commas, whose share is over when sampling begins after the share `begun`."""
        used = (self.row.merge_steps, self.row.background_steps, ("contrast_steps",))
        shares = {names[-1]: self.share(names) for names in used if names}
        return ", ".join(f"{name} {share:g}" for name, share in shares.items() if 0 < share <= begun)

    def strengths(self, masses: Float[Tensor, "*batch regions"]) -> Float[Tensor, "*batch regions"]:
        """How much of a region is its own prediction: b_k, or 1 - alpha where nothing competes for attention."""
        if self.row.measured:
            return merge_strengths(masses, self.alpha)
        return torch.full_like(masses, 1 - self.alpha)


@dataclass(frozen=True)
class StepPlan:
    """What a step does about regions beside region attention: decided once, for whichever sampler runs it.

    `merge`: the regions' own predictions are merged in, and see `background` outside their region. `contrast`: the
    guidance points away from the empty scene. `anew`: regions are predicted in this step; else they stay what they
    were last predicted to be.
    """

    merge: bool
    contrast: bool
    background: Background = Background.LATENTS
    anew: bool = True


@dataclass(frozen=True)
class RegionSchedule:
    """Above which noise levels a step must begin to take part, and in every how many steps regions are predicted."""

    merge_above: float
    contrast_above: float
    background_above: float
    background: Background
    every: int = 1

    def plan(self, level: float, levels: Sequence[float] = ()) -> StepPlan:
        """What happens in the step in which a sampler asks at `level`; `levels` are those of its own steps."""
        begun = min((start for start in levels if start >= level - SAME_LEVEL), default=level)
        background = self.background if begun > self.background_above else Background.LATENTS
        steps_before = sum(start > begun + SAME_LEVEL for start in levels)
        anew = steps_before % self.every == 0
        return StepPlan(begun > self.merge_above, begun > self.contrast_above, background, anew)


def region_schedule(settings: RegionSettings, level_after: Callable[[float], float]) -> RegionSchedule:
    """`level_after(share)` is the noise level at which the model's whole schedule is after that share of its steps."""

    def above(*names: str) -> float:
        return lowest_level(settings.share(names), level_after)

    row = settings.row
    return RegionSchedule(
        above(*row.merge_steps),
        above("contrast_steps"),
        above(*row.background_steps),
        row.background,
        settings.region_every,
    )


def lowest_level(share: float, level_after: Callable[[float], float]) -> float:
    """Above which level a step must begin to lie in the first `share` of a schedule; any share has the first step."""
    if share <= 0:
        return math.inf
    return 0.0 if share >= 1 else float(level_after(share - min(MARGIN, share / 2)))
