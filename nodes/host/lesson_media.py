"""What Learn Concept learns from: its pictures and clips, read at the size, rate and length that suit the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as memory
from comfy_api.latest import InputImpl
from torch import Tensor

from ...ccvd_core.backbones.hosted import LessonConditions
from ...ccvd_core.concepts.kinds import ConceptKind
from ...ccvd_core.errors import MediaError
from ...ccvd_core.learning.clips import ClipCut, LessonBudget, cut_images
from ...ccvd_core.learning.example import Example
from ...ccvd_core.learning.lesson_items import LessonItem, LessonPiece, lesson_size
from ...ccvd_core.learning.media import check_media, prepare_pictures, to_bytes, to_floats
from ...ccvd_core.learning.video_file import VideoFile, read_clip


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
        return lesson_size(height, width, self._area, self._multiple)


def encoded_examples(
    media: Sequence[LessonPiece], model: Any, vae: Any, conditions: LessonConditions, say: Callable[[str], None]
) -> list[Example]:
    """Pixels and captions as the latents and captions that `model`, ComfyUI's BaseModel, learns from."""
    examples = []
    for number, piece in enumerate(media, 1):
        memory.throw_exception_if_processing_interrupted()
        say(f"Encoding {'pictures' if piece.pixels.shape[2] == 1 else 'clips'} {number} of {len(media)}")
        floats = to_floats(piece.pixels)
        # The model is shown things beside the clip on image-to-video and control models.
        encoded = vae.encode(floats[0].permute(1, 2, 3, 0))
        latents = model.process_latent_in(encoded).float().cpu()[0]
        shown, mask = conditions.shown(floats, latents), piece.mask_on(latents)
        examples.append(Example(latents, piece.caption, shown, mask, piece.item))
    return examples
