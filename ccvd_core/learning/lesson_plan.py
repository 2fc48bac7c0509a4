"""A lesson before its first step: its settings, what it will take, and space on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..backbones.base import Backbone
from ..concepts.kinds import Kind
from ..concepts.whole_files import ReservedSpace, advice
from ..errors import LibraryError
from .clock import minutes
from .plan import GIB, LearningNeed, usual_settings
from .step import LearningSettings


def chosen_settings(
    backbone: Backbone, kind: Kind, steps: int, rank: int, lr: float, still_frames: int, **others: Any
) -> LearningSettings:
    """The preset for this base with what the artist set; of the first four, 0 leaves what is usual.

    Raises CCVDError for what cannot be, and for still clips that the base cannot make.
    """
    usual = usual_settings(backbone, kind)
    settings = replace(
        usual,
        steps=steps or usual.steps,
        rank=rank or usual.rank,
        lr=lr or usual.lr,
        token_lr=min(1.0, usual.token_lr * (lr / usual.lr if lr else 1.0)),
        still_frames=still_frames or usual.still_frames,
        **others,
    )
    backbone.video.check_frames(settings.still_frames, "Learning setting still_frames")
    return settings


def need_summary(need: LearningNeed, steps: int, seconds: float) -> str:
    """What is going to happen, in one line."""
    return (
        f"{need.parameters / 1e6:.2f} million parameters, {steps} steps, about {need.total_bytes / GIB:.2f} GB beside "
        f"the model and {minutes(seconds)}"
    )


def reserve(library: Path, name: str, size: int) -> ReservedSpace:
    """Take what the concept and its progress will need on the disk, before hours of learning are in danger.

    Raises LibraryError when it is not there.
    """
    folder = library / ".progress"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ReservedSpace(folder / f"{name}.reserved", size)
    except OSError as error:
        raise LibraryError(
            f"Learning <{name}> will write about {size / 1024**2:.0f} MB to {library}: {advice(error)}"
        ) from error


def after_failure(done: int, kept: bool) -> str:
    """What is left after the loss became no number, and what the next attempt does with it."""
    if not kept:
        return "Nothing could be kept: the next attempt starts afresh." if done else "Nothing was learned yet."
    return (
        f"The concept up to step {done} is kept: queue again with only the learning rate changed, and it goes on from "
        "there. With other pictures or settings it starts afresh."
    )
