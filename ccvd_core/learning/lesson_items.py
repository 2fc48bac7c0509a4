"""What a lesson is learned from, before it is encoded: pictures and clips in 8 bits, and a caption for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from ..backbones.video_form import VideoForm
from ..concepts.kinds import ConceptKind
from ..errors import CCVDError
from ..scaling import PLAIN, resized
from .clips import ClipCut
from .media import fit_picture, still_clip, training_size


@dataclass(frozen=True)
class LessonItem:
    """One picture or clip: what there is of it, one piece per window."""

    pieces: tuple[UInt8[Tensor, "1 3 frames height width"], ...]

    @property
    def is_picture(self) -> bool:
        return self.pieces[0].shape[2] == 1


def lesson_size(height: int, width: int, area: int, multiple: int) -> tuple[int, int]:
    """(height, width) to learn a picture at: never more pixels than it has, but one cell of `multiple` at least."""
    return training_size(height, width, area=max(multiple**2, min(area, height * width)), multiple=multiple)


def clip_cut(kind: ConceptKind, form: VideoForm, length: int, windows: Any) -> ClipCut:
    """How clips of this kind are cut; `length` 0 takes what suits the base model."""
    return ClipCut(form.rate, length or form.length, windows, form.frames(kind.least_latent_frames), form.frame_step)


def clips_summary(items: Sequence[LessonItem], cut: ClipCut) -> str:
    """What was taken of the clips, for the line that announces a lesson; empty without clips."""
    windows = [piece for item in items if not item.is_picture for piece in item.pieces]
    lengths = sorted({window.shape[2] for window in windows})
    if not windows:
        return ""
    frames = " or ".join(str(length) for length in lengths)
    return f"; of the clips {len(windows)} x {frames} frames at {cut.rate:g} a second ({lengths[-1] / cut.rate:.1f} s)"


def spread_captions(captions: Sequence[str], name: str, items: int) -> list[str]:
    """One caption per picture or clip: the lines of one text, or the items of a list (empty ones count).

    Raises CCVDError when their number differs.
    """
    if len(captions) > 1:
        lines = [" ".join(item.split()) or f"<{name}>" for item in captions]
    else:
        lines = [line.strip() for line in "".join(captions).splitlines() if line.strip()]
    if lines and len(lines) != items:
        raise CCVDError(
            f"There are {len(lines)} captions for {items} pictures or clips: write one line for each, in the same "
            "order, or leave the captions empty."
        )
    return lines or [f"<{name}>"] * items


@dataclass(frozen=True)
class LessonPiece:
    """What one example is made of. `mask` [height, width] covers the whole picture, at whatever size."""

    pixels: UInt8[Tensor, "1 3 frames height width"]
    caption: str
    mask: Float[Tensor, "mask_height mask_width"] | None = None
    item: int | None = None
    """Number of its picture or clip."""

    def mask_on(
        self, latents: Float[Tensor, "channels latents rows columns"]
    ) -> Float[Tensor, "1 latents rows columns"] | None:
        """The mask at the size of the example's latents: cropped as the picture was, and the same in every frame."""
        if self.mask is None:
            return None
        height, width = self.pixels.shape[-2:]
        fitted = fit_picture(self.mask[..., None].float().clamp(0, 1), (height, width))[0]
        small = resized(fitted, (latents.shape[-2], latents.shape[-1]), PLAIN)
        return small.expand(1, *latents.shape[1:]).clone()


def pieces(
    items: Sequence[LessonItem], captions: Sequence[str], still_frames: int, masks: Sequence[Tensor | None] = ()
) -> Iterator[LessonPiece]:
    """What every example is made of: a picture is one as it is, and one as a still clip."""
    parts = zip(items, captions, masks or [None] * len(items), strict=True)
    for number, (item, caption, mask) in enumerate(parts):
        for pixels in item.pieces:
            yield LessonPiece(pixels, caption, mask, number)
            if item.is_picture and still_frames > 1:
                yield LessonPiece(still_clip(pixels, still_frames), caption, mask, number)


def spread_masks(masks: Sequence[Float[Tensor, "..."]], items: int) -> list[Tensor | None]:
    """One mask [height, width] per picture or clip, of ComfyUI's [n, height, width]: one batch of as many, or a list.

    Several masks of one clip are taken together: what is white in any of them counts. Raises CCVDError when their
    number differs.
    """
    batches = [mask if mask.ndim == 3 else mask[None] if mask.ndim == 2 else mask[:, 0] for mask in masks]
    if not batches:
        return [None] * items
    if sum(map(len, batches)) == items:
        return [mask for batch in batches for mask in batch]
    if len(batches) == items:
        return [batch.amax(0) for batch in batches]
    raise CCVDError(
        f"There are {sum(map(len, batches))} masks for {items} pictures or clips: connect one for each, in the same "
        "order, or disconnect `masks`."
    )
