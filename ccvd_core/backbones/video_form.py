"""What a base model makes: its frame rate and sizes, which numbers of frames it can make, and what it knows."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CCVDError, MediaError


@dataclass(frozen=True)
class VideoForm:
    """What a base model makes and was trained on: frames a second, and what suits learning on it."""

    rate: float
    length: int
    """Frames of a clip to learn from."""
    area: int
    """Pixels of a frame to learn at."""
    frame_step: int
    """Frames of a clip to one latent frame, after the first, which is one frame: s makes clips of s k + 1 frames."""
    knows: str = ""
    """All that it has seen, where that is little; empty for a model that has seen photos and films."""

    def __post_init__(self) -> None:
        if self.frame_step < 1 or not self.makes(self.length):
            raise ValueError(f"clips of {self.length} frames cannot be made in steps of {self.frame_step}")

    def makes(self, frames: int) -> bool:
        """Whether a clip can have so many frames."""
        return frames >= 1 and (frames - 1) % self.frame_step == 0

    def frames(self, latent_frames: int) -> int:
        """Frames of a clip of so many latent ones."""
        return (latent_frames - 1) * self.frame_step + 1

    @property
    def counts(self) -> str:
        """The numbers of frames that a clip can have, in words."""
        if self.frame_step == 1:
            return "1 or more"
        return f"{', '.join(str(self.frames(k)) for k in range(1, 5))}, ... ({self.frame_step}k + 1)"

    def check_frames(self, frames: int, what: str) -> None:
        """Raise CCVDError, naming `what`, for a number of frames that the model cannot make."""
        if not self.makes(frames):
            raise CCVDError(f"{what} must be {self.counts} on this model; got {frames}.")


def largest_frames(count: int, frame_step: int) -> int:
    """The largest s k + 1 that is at most `count`, s the `frame_step`. Raises MediaError below 1."""
    if count < 1:
        raise MediaError(f"A clip needs at least 1 frame; got {count}. Ask for 1 (a picture) or more.")
    return (count - 1) // frame_step * frame_step + 1
