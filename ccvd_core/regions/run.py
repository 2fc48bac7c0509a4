"""A scene while it is sampled: what is kept from step to step, and what is decided, whichever sampler runs.

The samplers (`row_merging.py`, and `nodes/host/region_merging.py` for ComfyUI) differ in how they batch model calls.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.grid import TokenGrid
from .masks import latent_grid, latent_masks, own_view
from .merging import merge_noise, noisy_surroundings, own_input
from .modes import Background, RegionSettings
from .regional_prompt import AnyPrompt, RegionalPrompt


@dataclass(eq=False)
class SceneRun:
    """One scene in one run, by these settings: the same objects in every step."""

    scene: RegionalPrompt
    settings: RegionSettings
    _laid: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @cached_property
    def own(self) -> tuple[AnyPrompt, ...]:
        """What each region's own prediction is made with."""
        return self.settings.row.own(self.scene)

    def masks(
        self, like: Float[Tensor, "*batch channels frames height width"], grid: TokenGrid
    ) -> tuple[Float[Tensor, "regions frames height width"], Float[Tensor, "regions frames height width"]]:
        """Each region's share of latents of this size, and what its own prediction sees of them."""
        key = (like.shape[-3:], grid)
        if key not in self._laid:
            masks = latent_masks(self.scene.regions, like.shape, grid, self.scene.blend)[1:].to(like)
            self._laid[key] = masks, own_view(masks, latent_grid(like.shape, grid))
        return self._laid[key]

    def seen(self, region: int, latents: Tensor, background: Tensor | None, grid: TokenGrid) -> Tensor:
        """What the own prediction of a region (from 0) is made from. `background` None: the latents as they are."""
        return latents if background is None else own_input(latents, background, self.masks(latents, grid)[1][region])

    def merge(
        self,
        whole: Float[Tensor, "channels frames height width"],
        own: Float[Tensor, "regions channels frames height width"],
        masses: Float[Tensor, " regions"] | None,
        grid: TokenGrid,
    ) -> Float[Tensor, "channels frames height width"]:
        """The regions' `own` predictions merged into the `whole` scene's, by the attention they got where it counts."""
        if masses is None:
            masses = torch.full((len(own),), torch.nan)
        return merge_noise(whole, own, self.masks(whole, grid)[0], self.settings.strengths(masses))


@dataclass(eq=False)
class Surroundings:
    """A scene without its regions, over the whole clip: what was predicted, `clean`, from the latents `first`.

    `level` is their noise level; `windows` are the latent frames that were looked at together.
    """

    level: float
    first: Tensor
    clean: Tensor
    windows: set[tuple[int, ...]] = field(default_factory=set)


@dataclass(eq=False)
class Beginning:
    """How a clip's sampling began: its noise (None: unknown), and by place its scenes without their regions."""

    noise: Tensor | None = None
    surroundings: dict[Hashable, Surroundings] = field(default_factory=dict)

    def lacks(self, background: Background, place: Hashable, level: float, frames: Tensor) -> bool:
        """Whether a step with this background must predict the empty scene: the first that needs it, for all frames.

        A second call for the same frames brings nothing new.
        """
        if background is not Background.EMPTY_SCENE:
            return False
        known = self.surroundings.get(place)
        return known is None or (known.level == level and window(frames) not in known.windows)

    def remember(
        self, place: Hashable, level: float, frames: Tensor, first: Tensor, clean: Tensor, clip_frames: int
    ) -> None:
        """Keep what the empty scene was predicted to be in these of the clip's latent frames."""
        if place not in self.surroundings:
            empty = first.new_zeros(*first.shape[:2], clip_frames, *first.shape[3:])
            self.surroundings[place] = Surroundings(level, empty, empty.clone())
        known = self.surroundings[place]
        known.first[:, :, frames], known.clean[:, :, frames] = first, clean
        known.windows.add(window(frames))

    def started_at(self, place: Hashable, level: float) -> bool:
        """Whether a scene's surroundings were predicted from latents at this level, and so are those latents there."""
        return place in self.surroundings and self.surroundings[place].level == level

    def background(
        self, kind: Background, place: Hashable, level: float, frames: Tensor, colour: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        """What regions' own predictions see in a step outside their region; None: the latents as they are.

        `colour` mixes a plain colour with the noise that it is given, to be as noisy as `level`.
        """
        if kind is Background.COLOUR and self.noise is not None:
            # A sampler that goes on from latents of which no beginning is known has no noise to give the colour.
            return colour(self.noise[:, :, frames])
        known = self.surroundings.get(place)
        if kind is Background.EMPTY_SCENE and known is not None:
            return noisy_surroundings(known.clean[:, :, frames], known.first[:, :, frames], level / known.level)
        return None

    def needed_later(self, settings: RegionSettings, merged: bool) -> bool:
        """Whether a sampler that goes on from here needs to know this; `merged`: this one has merged predictions."""
        coloured = settings.row.background is Background.COLOUR and settings.share(settings.row.background_steps) > 0
        return bool(self.surroundings) or (merged and coloured)

    def kept(self) -> Beginning:
        """A copy in the machine's memory."""
        return Beginning(
            None if self.noise is None else self.noise.cpu(),
            {
                place: Surroundings(known.level, known.first.cpu(), known.clean.cpu(), known.windows)
                for place, known in self.surroundings.items()
            },
        )


class LastPredicted:
    """What regions were last predicted to be, clean, by whose they are and the latent frames they were seen in."""

    def __init__(self) -> None:
        self._clean: dict[Hashable, Tensor] = {}

    def keep(self, whose: Hashable, frames: Tensor, clean: Tensor) -> None:
        self._clean[whose, window(frames)] = clean

    def of(self, whose: Hashable, frames: Tensor) -> Tensor | None:
        """None: never predicted."""
        return self._clean.get((whose, window(frames)))


def window(frames: Tensor) -> tuple[int, ...]:
    return tuple(frames.tolist())
