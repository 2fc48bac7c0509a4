"""A folder of pictures and clips, with a caption in a text file beside each that has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from ..backbones.video_form import VideoForm
from ..concepts.kinds import KINDS, Kind
from ..errors import MediaError
from ..learning.clips import ClipWindows, LessonBudget
from ..learning.lesson_items import LessonItem, clip_cut, lesson_size
from ..learning.media import check_media, prepare_pictures, to_bytes
from ..learning.video_file import VideoFile, read_clip

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CLIPS = (".mp4", ".avi", ".mov", ".webm", ".mkv", ".gif")


@dataclass(frozen=True)
class MediaFolder:
    """What a lesson learns from; `captions[i]` is of `items[i]`, empty where there is none."""

    items: tuple[LessonItem, ...]
    captions: tuple[str, ...]

    def written(self, name: str, pattern: str = "") -> tuple[str, ...]:
        """A caption for each: its own; where there is none `pattern`, or `<name>` alone."""
        return tuple(caption or pattern or f"<{name}>" for caption in self.captions)


@dataclass(frozen=True)
class ReadingSettings:
    """How a folder is read. `area` (pixels of a frame), `length` (frames of a clip): 0 takes what suits the model."""

    area: int = 0
    length: int = 0
    windows: ClipWindows = "first"


def read_media_folder(
    folder: Path, kind: Kind, form: VideoForm, multiple: int, settings: ReadingSettings | None = None
) -> MediaFolder:
    """The pictures and clips of a folder in the order of their names, sides in multiples of `multiple`.

    Raises MediaError. A motion is learned from clips alone: pictures are refused.
    """
    settings = settings or ReadingSettings()
    files = media_files(folder)
    cut, budget = clip_cut(KINDS[kind], form, settings.length, settings.windows), LessonBudget()

    def size(height: int, width: int) -> tuple[int, int]:
        return lesson_size(height, width, settings.area or form.area, multiple)

    items = []
    for file in files:
        if file.suffix.lower() in CLIPS:
            items.append(LessonItem(tuple(read_clip(VideoFile(str(file), file.name), cut, size, budget))))
        elif KINDS[kind].moves:
            raise MediaError(f"A {kind} is learned from clips; {file.name} is a picture. Take it out of {folder}.")
        else:
            items.append(picture_item(file, size, budget))
    return MediaFolder(tuple(items), tuple(map(caption_beside, files)))


def media_files(folder: Path) -> list[Path]:
    """Pictures and clips of a folder, by name. Raises MediaError when there are none."""
    if not folder.is_dir():
        raise MediaError(f"There is no folder {folder}. Give a folder with pictures or clips in it.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (*PICTURES, *CLIPS))
    if not files:
        raise MediaError(f"{folder} has no pictures or clips: expected {', '.join((*PICTURES, *CLIPS))} files.")
    return files


def caption_beside(file: Path) -> str:
    """What the text file of the same name says, in one line; empty without one."""
    beside = file.with_suffix(".txt")
    return " ".join(beside.read_text("utf-8").split()) if beside.is_file() else ""


def picture_item(file: Path, size: Callable[[int, int], tuple[int, int]], budget: LessonBudget) -> LessonItem:
    """A picture at the size to learn at."""
    picture = load_picture(file)
    check_media(picture)
    fitting = size(*picture.shape[:2])
    budget.take(1, *fitting, file.name)
    return LessonItem((to_bytes(prepare_pictures(picture[None], fitting)),))


def load_picture(file: Path) -> Float[Tensor, "height width channels"]:
    """A picture, upright, in 0..1. Raises MediaError for a file that is none."""
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            pixels = np.asarray(upright.convert("RGBA" if "A" in upright.getbands() else "RGB"))
    except OSError as error:
        raise MediaError(f"{file.name} cannot be read as a picture ({error}). Save it anew as PNG.") from error
    return torch.from_numpy(pixels.astype(np.float32) / 255)
