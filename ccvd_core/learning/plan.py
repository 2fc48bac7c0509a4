"""What learning a concept will need, told before the first step, and settings that suit a base model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..backbones.base import Backbone
from ..backbones.video_form import VideoForm
from ..concepts.kinds import KINDS, Kind, Layers
from ..errors import LearningError
from .step import LearningSettings

GIB = 1024**3
WORD_ROWS = 8
LATENT_PIXELS = 8
"""Pixels for each number of their latents: usually there are 16, which leaves room for larger pictures."""
WEIGHT_COPIES = 4
"""fp32 weight, gradient and AdamW's two moments."""


@dataclass(frozen=True)
class LearningNeed:
    """What learning adds to the loaded base model. Bytes are estimates: see `Backbone.step_values`."""

    parameters: int
    state_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.state_bytes + self.activation_bytes


def learning_need(
    backbone: Backbone,
    kind: Kind,
    rank: int,
    latent_shape: Sequence[int],
    batch: int,
    bytes_per_value: int,
    layers: Layers = "usual",
) -> LearningNeed:
    """Estimate for adapters of `rank` on clips of `latent_shape` [channels, frames, height, width]."""
    parameters = adapter_values(backbone, kind, rank, layers) + backbone.layers * backbone.text_width
    activations = backbone.step_values(latent_shape) * batch * bytes_per_value
    return LearningNeed(parameters, parameters * 4 * WEIGHT_COPIES, activations)


def adapter_values(backbone: Backbone, kind: Kind, rank: int, layers: Layers) -> int:
    """How many numbers adapters of `rank` have on the Linears that a lesson trains."""
    wanted = set(backbone.site_ids(kind, layers))
    return sum(rank * (site.in_features + site.out_features) for site in backbone.sites if site.id in wanted)


def bytes_to_write(backbone: Backbone, kind: Kind, settings: LearningSettings) -> int:
    """What a lesson writes at most: its progress (weights, AdamW's two moments, mean and best), and the concept itself.

    Class words are counted as `WORD_ROWS` text rows per layer; tokens and keys stand in the concept's header in base64.
    Class pictures are counted at the usual size of the model's clips, a number per `LATENT_PIXELS` pixels.
    """
    adapters = 4 * adapter_values(backbone, kind, settings.rank, settings.layers)
    rows = 4 * backbone.layers * backbone.text_width
    copies = 3 + bool(settings.ema) + (settings.keep == "best")
    progress = copies * (adapters + WORD_ROWS * rows) + 32 * settings.steps
    if settings.class_weight:
        form = backbone.video
        progress += 4 * settings.class_pictures * form.area * form.length // LATENT_PIXELS
    concept = adapters + 4 * (WORD_ROWS + 2) * rows // 3
    return progress + concept + 1024**2


def check_fits(need: LearningNeed, free_bytes: int) -> None:
    """Raise LearningError with advice when learning would run out of memory."""
    if need.total_bytes > free_bytes:
        raise LearningError(
            f"Learning needs about {need.total_bytes / GIB:.1f} GB beside the model, but {free_bytes / GIB:.1f} GB are "
            "free. Use smaller pictures or fewer frames (half the side needs about a quarter), a lower rank, an "
            "fp8 file of the model, or close other programs that use the GPU."
        )


def check_lesson(form: VideoForm, kind: Kind, settings: LearningSettings, latent_frames: Iterable[int]) -> None:
    """Raise CCVDError for still clips that the model cannot make, LearningError for media that do not show this kind.

    `latent_frames` are those of each example.
    """
    form.check_frames(settings.still_frames, "Learning setting still_frames")
    fewest, least = min(latent_frames), KINDS[kind].least_latent_frames
    if fewest < least:
        raise LearningError(
            f"A {kind} is learned from clips of at least {form.frames(least)} frames; got one of {form.frames(fewest)}."
        )


def usual_settings(backbone: Backbone, kind: Kind) -> LearningSettings:
    """The base model's own preset for this kind; every number can be overridden in the node."""
    numbers: dict[str, Any] = backbone.presets[KINDS[kind].preset].numbers()
    return LearningSettings(**numbers)
