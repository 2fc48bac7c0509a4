"""The numbers that suit learning on a base model, each with its source. `learning/plan.py` makes settings of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Preset:
    """Every number has a source, and none is left to a default."""

    steps: int
    rank: int
    lr: float
    """Of the adapters."""
    token_lr: float
    """Of the concept tokens."""
    batch: int
    time_mean: float
    """Mean of the normal that is squashed to the training time; above 0 trains more on noisy clips."""
    time_spread: float
    """Standard deviation of that normal: 1.7 draws all times about equally often."""
    time_shift: float
    """Shift of the training time towards noise; 1 for none."""
    appearance_share: float
    """Of a motion: share of the ordinary loss beside the loss on frame-to-frame differences."""
    still_frames: int
    """Frames of the still clip that a picture is learned as too; 1: as a single frame only."""
    source: Mapping[str, str]
    """Where each of these numbers comes from, by its name."""

    def __post_init__(self) -> None:
        given = {name for name, text in self.source.items() if text}
        wrong = sorted((self.numbers().keys() | self.source.keys()) - (self.numbers().keys() & given))
        if wrong:
            raise ValueError(f"every number of a preset has a source and nothing else has; look at {', '.join(wrong)}")

    def numbers(self) -> dict[str, int | float]:
        """All fields but their sources, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}
