"""What Learn Concept learns from: its pictures and clips, read at the size, rate and length that suit the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management as memory
from comfy_api.latest import InputImpl
from torch import Tensor

from ...ccvd_core.backbones.hosted import LessonConditions
from ...ccvd_core.backbones.video_form import VideoForm
from ...ccvd_core.concepts.kinds import ConceptKind
from ...ccvd_core.errors import CCVDError, MediaError
from ...ccvd_core.learning.clips import ClipCut, LessonBudget, cut_images
from ...ccvd_core.learning.example import Example
from ...ccvd_core.learning.media import check_media, prepare_pictures, still_clip, to_bytes, to_floats, training_size
from ...ccvd_core.learning.video_file import VideoFile, read_clip


@dataclass(frozen=True)
class LessonItem:
    """One picture or clip: what there is of it, [1, 3, frames, height, width] in 8 bits, one piece per window."""

    pieces: tuple[Tensor, ...]

    @property
    def is_picture(self) -> bool:
        return self.pieces[0].shape[2] == 1


class MediaReader:
    """Reads the pictures and clips of one lesson, within one budget. `say` is told what is being read."""

    def __init__(self, kind: ConceptKind, cut: ClipCut, area: int, multiple: int, say: Callable[[str], None]) -> None:
        """Sides become multiples of `multiple`, and frames at most `area` pixels."""
        self._kind, self._cut, self._area, self._multiple, self._say = kind, cut, area, multiple, say
        self._budget = LessonBudget()

    def read(self, images: Sequence[Tensor], videos: Sequence[Any]) -> list[LessonItem]:
        """Pictures first, then clips. Of what moves, a batch of `images` is the frames of one clip, at the base's rate.

        Raises MediaError when there is nothing, or something that cannot be learned from.
        """
        items: list[LessonItem] = []
        if self._kind.moves:
            for number, batch in enumerate(images, 1):
                if len(batch) < self._cut.shortest:
                    raise MediaError(
                        f"A {self._kind.name} is learned from clips of at least {self._cut.shortest} frames; got "
                        f"{len(batch)} pictures at a time. Connect clips to `video`, or the frames of a clip as one "
                        "batch to `images`."
                    )
                items.append(LessonItem(tuple(self._frames(batch, self._cut.rate, f"Batch {number} of `images`"))))
        else:
            items += [item for batch in images for item in self._pictures(batch)]
        for number, video in enumerate(videos, 1):
            self._say(f"Reading clip {number} of {len(videos)}")
            items.append(LessonItem(tuple(self._clip(video, f"Clip {number}"))))
        if not items:
            raise MediaError("There is nothing to learn from: connect pictures to `images` or clips to `video`.")
        return items

    def _pictures(self, batch: Tensor) -> Iterator[LessonItem]:
        check_media(batch)
        for picture in batch:
            memory.throw_exception_if_processing_interrupted()
            size = self._size(*picture.shape[:2])
            self._budget.take(1, *size, "the next picture")
            yield LessonItem((to_bytes(prepare_pictures(picture[None], size)),))

    def _clip(self, video: Any, name: str) -> list[Tensor]:
        """A VIDEO's windows: of frames that are there already, or read from its file in a stream."""
        if isinstance(video, InputImpl.VideoFromComponents):
            parts = video.get_components()
            return self._frames(parts.images, float(parts.frame_rate), name)
        source = video.get_stream_source()
        if isinstance(source, str):
            name = f"{name} ({Path(source).name})"
        start, seconds = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
        file = VideoFile(source, name, start, seconds)
        tick = memory.throw_exception_if_processing_interrupted
        return read_clip(file, self._cut, self._size, self._budget, tick)

    def _frames(self, frames: Tensor, rate: float, name: str) -> list[Tensor]:
        return cut_images(frames, rate, name, self._cut, self._size, self._budget)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Training size of a picture of this size: never more pixels than it has, but one cell at least."""
        area = max(self._multiple**2, min(self._area, height * width))
        return training_size(height, width, area=area, multiple=self._multiple)


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


def pieces(items: Sequence[LessonItem], captions: Sequence[str], still_frames: int) -> Iterator[tuple[Tensor, str]]:
    """Pixels and caption of every example: a picture is one as it is, and one as a still clip."""
    for item, caption in zip(items, captions, strict=True):
        for pixels in item.pieces:
            yield pixels, caption
            if item.is_picture and still_frames > 1:
                yield still_clip(pixels, still_frames), caption


def encoded_examples(
    media: Sequence[tuple[Tensor, str]], model: Any, vae: Any, conditions: LessonConditions, say: Callable[[str], None]
) -> list[Example]:
    """Pixels and captions as the latents and captions that `model`, ComfyUI's BaseModel, learns from."""
    examples = []
    for number, (pixels, caption) in enumerate(media, 1):
        memory.throw_exception_if_processing_interrupted()
        say(f"Encoding {'pictures' if pixels.shape[2] == 1 else 'clips'} {number} of {len(media)}")
        floats = to_floats(pixels)
        # The model is shown things beside the clip on image-to-video and control models.
        encoded = vae.encode(floats[0].permute(1, 2, 3, 0))
        latents = model.process_latent_in(encoded).float().cpu()[0]
        examples.append(Example(latents, caption, conditions.shown(floats, latents)))
    return examples
