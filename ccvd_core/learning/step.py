"""What one step of learning is made of: settings, random draws, learning rate (DESIGN 2.1)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..concepts.concept import TOKEN_INJECTIONS, LowRank, TokenInjection
from ..concepts.kinds import LAYERS, Kind, Layers
from ..errors import CCVDError
from .optimizers import OPTIMIZERS
from .retention import FORMS, RetentionForm

Keep = Literal["last", "best"]
KEEPS: tuple[Keep, ...] = get_args(Keep)
LEAST_NOISE_RANGE = 0.01
SEED_STRIDE, STREAM_STRIDE = 1_000_003, 200_000
"""Between the generators' seeds of two lessons, and of two streams of one: more than a lesson has steps. A generator
reads the lower 32 bits of its seed, so that they are added up."""


@dataclass(frozen=True)
class LearningSettings:
    """How a concept is learned. `retention` is lambda; 0 switches the retention loss off."""

    steps: int = 800
    rank: int = 16
    lr: float = 1e-4
    token_lr: float = 1e-3
    batch: int = 1
    retention: float = 1e-2
    retention_form: RetentionForm = "subspace"
    tokens: bool = True
    """Learn concept tokens too; without them this is a plain LoRA."""
    token_injection: TokenInjection = "output"
    """Where concept tokens are added. "encoder", the paper's place, goes back through the text encoder at every step
    and needs one small enough for that (`Backbone.encode_with`)."""
    own_words_only: bool = True
    """Key and value adapters act only on the concept's own text rows, while learning as in use."""
    time_mean: float = 0.0
    """Mean of the normal that is squashed to the training time t; above 0 trains more on noisy clips."""
    time_spread: float = 1.0
    """Standard deviation of that normal: 1.7 draws all times about equally often."""
    time_shift: float = 3.0
    """Flow shift s: t -> s t / (1 + (s - 1) t)."""
    noise_from: float = 0.0
    """Least training time t, in 0..1 (1 = pure noise)."""
    noise_to: float = 1.0
    """Largest training time. A model made of experts has one for high noise and one for low: each learns its range."""
    appearance_share: float = 0.1
    """Motion only: share of the ordinary loss beside the loss on frame-to-frame differences."""
    still_frames: int = 1
    """Every picture is learned as a still clip of so many frames too; 1: as a single frame only. The base model's
    `VideoForm` says which numbers it can make."""
    seed: int = 0
    layers: Layers = "usual"
    """Which Linears get adapters, a row of `kinds.LAYERS`: those of the kind, or others."""
    optimizer: str = "adamw"
    """A row of `optimizers.py`. One that finds its rate itself reads neither `lr` nor `token_lr`."""
    weight_decay: float = 1e-2
    caption_dropout: float = 0.0
    """Share of the examples drawn whose caption is the concept's name alone: it then leans less on the rest."""
    ema: float = 0.0
    """Decay of a running mean of adapters and tokens, which becomes the concept; 0: the last step does."""
    frame_offset: float = 0.0
    """Size of noise that each channel of a frame shares, beside the usual noise: so that brightness and colour of a
    clip are learned too, and do not stick to a motion (offset noise, per frame as in JointTuner)."""
    unmasked: float = 0.1
    """Weight of the loss outside an example's mask, where it has one; inside it is 1."""
    class_weight: float = 0.0
    """Weight of the loss on class pictures (see `class_pictures.py`); 0: none are made."""
    class_pictures: int = 8
    keep: Keep = "last"
    """Which step becomes the concept: the last, or the best by the validation loss (see `validation.py`)."""
    validate_every: int = 50

    def __post_init__(self) -> None:
        checks = {
            "steps": (self.steps >= 1, "at least 1", self.steps),
            "rank": (1 <= self.rank <= 512, "between 1 and 512", self.rank),
            "lr": (0 < self.lr <= 1, "above 0 and at most 1", self.lr),
            "token_lr": (0 < self.token_lr <= 1, "above 0 and at most 1", self.token_lr),
            "batch": (self.batch >= 1, "at least 1", self.batch),
            "retention": (0 <= self.retention < math.inf, "0 or more", self.retention),
            "retention_form": (self.retention_form in FORMS, f"one of {', '.join(FORMS)}", self.retention_form),
            "token_injection": (
                self.token_injection in TOKEN_INJECTIONS,
                f"one of {', '.join(TOKEN_INJECTIONS)}",
                self.token_injection,
            ),
            "time_spread": (0 < self.time_spread < math.inf, "above 0", self.time_spread),
            "time_shift": (self.time_shift > 0, "above 0", self.time_shift),
            "noise_from": (0 <= self.noise_from <= 1, "between 0 and 1", self.noise_from),
            "noise_to": (0 <= self.noise_to <= 1, "between 0 and 1", self.noise_to),
            "still_frames": (self.still_frames >= 1, "at least 1", self.still_frames),
            "layers": (self.layers in LAYERS, f"one of {', '.join(LAYERS)}", self.layers),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}", self.optimizer),
            "weight_decay": (0 <= self.weight_decay < 1, "at least 0 and below 1", self.weight_decay),
            "caption_dropout": (0 <= self.caption_dropout <= 1, "between 0 and 1", self.caption_dropout),
            "ema": (0 <= self.ema < 1, "at least 0 and below 1", self.ema),
            "frame_offset": (0 <= self.frame_offset <= 1, "between 0 and 1", self.frame_offset),
            "unmasked": (0 <= self.unmasked <= 1, "between 0 and 1", self.unmasked),
            "class_weight": (0 <= self.class_weight <= 10, "between 0 and 10", self.class_weight),
            "class_pictures": (1 <= self.class_pictures <= 100, "between 1 and 100", self.class_pictures),
            "keep": (self.keep in KEEPS, f"one of {', '.join(KEEPS)}", self.keep),
            "validate_every": (self.validate_every >= 1, "at least 1", self.validate_every),
            "appearance_share": (0 <= self.appearance_share <= 1, "between 0 and 1", self.appearance_share),
        }
        for name, (good, expected, got) in checks.items():
            if not good:
                raise CCVDError(f"Learning setting {name} must be {expected}; got {got}.")
        if self.noise_to - self.noise_from < LEAST_NOISE_RANGE - 1e-9:
            raise CCVDError(
                f"Learning needs a range of noise at least {LEAST_NOISE_RANGE} wide: noise_from below noise_to, 0 to 1 "
                f"for all of it. Got {self.noise_from:g} to {self.noise_to:g}."
            )


TIMESTEPS: Mapping[str, Mapping[str, float]] = {
    "usual": {},
    "uniform": {"time_mean": 0.0, "time_spread": 1.7, "time_shift": 1.0},
    "sigmoid": {"time_mean": 0.0, "time_spread": 1.0, "time_shift": 1.0},
    "shift": {"time_mean": 0.0, "time_spread": 1.0, "time_shift": 3.0},
    "high noise": {"time_mean": 0.0, "time_spread": 1.7, "time_shift": 5.0},
}
"""How often each level of noise is learned, by the names that trainers use: the settings of each. `usual` is the base
model's own; `shift` is how musubi-tuner and DiffSynth train flow matching."""


def new_adapters(backbone: Backbone, kind: Kind, settings: LearningSettings) -> dict[str, LowRank]:
    """On the chosen Linears; A random, B zero (LoRA): the first step starts from the base model."""
    generator = torch.Generator().manual_seed(settings.seed)
    wanted, rank = set(backbone.site_ids(kind, settings.layers)), settings.rank
    return {
        site.id: LowRank(
            torch.randn(rank, site.in_features, generator=generator) / site.in_features**0.5,
            torch.zeros(site.out_features, rank),
        )
        for site in backbone.sites
        if site.id in wanted
    }


@dataclass(frozen=True)
class StepDraw:
    """What chance decides in a step: the examples' numbers, their noise, and their times in 0..1 (1 = noise)."""

    rows: tuple[int, ...]
    noise: Float[Tensor, "batch channels frames height width"]
    times: Float[Tensor, " batch"]
    name_alone: tuple[bool, ...]
    """Whether an example's caption is dropped, up to the concept's name."""

    def part(self, places: Iterable[int]) -> StepDraw:
        """What is drawn for these places of the batch."""
        some = list(places)
        rows, alone = tuple(self.rows[at] for at in some), tuple(self.name_alone[at] for at in some)
        return StepDraw(rows, self.noise[some], self.times[some], alone)


def draw_step(shapes: Sequence[Sequence[int]], settings: LearningSettings, step: int, stream: int = 0) -> StepDraw:
    """The draw of a step from examples with latents of these shapes; the seed and the step's number decide it.

    `stream` tells apart what is drawn in one step for different things. A batch is of one shape: pictures and clips of
    different sizes never share a step.
    """
    generator = torch.Generator().manual_seed(settings.seed * SEED_STRIDE + stream * STREAM_STRIDE + step)
    first = int(torch.randint(len(shapes), (), generator=generator))
    alike = [row for row, shape in enumerate(shapes) if shape == shapes[first]]
    others = torch.randint(len(alike), (settings.batch - 1,), generator=generator)
    rows = (first, *(alike[int(index)] for index in others))
    noise = torch.randn(len(rows), *shapes[first], generator=generator)
    times = training_times(torch.randn(len(rows), generator=generator), settings)
    # Drawn last: without them a step is the same, to the last bit, as before there was a choice.
    name_alone = (torch.rand(len(rows), generator=generator) < settings.caption_dropout).tolist()
    if settings.frame_offset:
        shared = torch.randn(*noise.shape[:3], 1, 1, generator=generator)
        noise = (noise + settings.frame_offset * shared) / (1 + settings.frame_offset**2) ** 0.5
    return StepDraw(rows, noise, times, tuple(name_alone))


def training_times(normal: Float[Tensor, " n"], settings: LearningSettings) -> Float[Tensor, " n"]:
    """Times from standard normal numbers z: t = shift(sigmoid(mean + spread z)), of the given range of noise only.

    Shift and sigmoid are increasing, so t lies in [noise_from, noise_to] where z lies in some [a, b]. The normal
    restricted to it has the quantiles P(a) + P(z) (P(b) - P(a)), P the normal's distribution function: over the whole
    range z stays z.
    """
    a, b = (normal_of_time(t, settings) for t in (settings.noise_from, settings.noise_to))
    # Where the range is in the upper tail, its mirror image: 1 - P would have no digits left.
    sign = -1.0 if a > 0 else 1.0
    low, high = sorted((sign * a, sign * b))
    ends = normal_below(torch.tensor([low, high], dtype=torch.float64))
    share = normal_below(sign * normal.double())
    z = sign * torch.special.ndtri(ends[0] + share * (ends[1] - ends[0]))
    t = torch.sigmoid(settings.time_mean + settings.time_spread * z)
    t = settings.time_shift * t / (1 + (settings.time_shift - 1) * t)
    # A number at the very end may round beyond it.
    return t.float().clamp(settings.noise_from, settings.noise_to)


def normal_below(z: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Share of a standard normal below z; keeps its digits in the lower tail, where torch.special.ndtr has none."""
    return torch.erfc(-z / math.sqrt(2)) / 2


def normal_of_time(t: float, settings: LearningSettings) -> float:
    """The z for which t = shift(sigmoid(mean + spread z))."""
    if t in (0.0, 1.0):
        return -math.inf if t == 0.0 else math.inf
    # odds of the shifted time are s times the odds of the plain one
    return (math.log(t / (1 - t)) - math.log(settings.time_shift) - settings.time_mean) / settings.time_spread


def rate_share(step: int, steps: int) -> float:
    """Share of the learning rate at a step: a short warm-up, constant, linear decay over the last third."""
    warm = min(1.0, (step + 1) / max(1, min(20, steps // 10)))
    decay = max(0.05, min(1.0, 3 * (1 - step / steps)))
    return warm * decay
