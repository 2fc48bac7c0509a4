"""The pictures and clips that come with the pack, and a word before a base that knows only these is shown others.

`scripts/make_demo_pictures.py` draws them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import InputImpl
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...ccvd_core.backbones.base import Backbone
from ...ccvd_core.errors import CCVDError
from ...ccvd_core.sheet import spread

FOLDER = Path(__file__).parents[2] / "demo" / "pictures"
ALIKE = 0.03
"""Mean difference of pixels (0..1) up to which a picture is one of the pack's: a clip's compression, another size."""


MOMENTS = 3
"""Frames of a clip that Demo Pictures shows."""


@cache
def demo_concepts() -> dict[str, dict[str, str]]:
    """Name -> {"kind", "class_words"} of everything that can be chosen."""
    return json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))


def read_media(file: Path) -> Float[Tensor, "frames height width 3"]:
    """A picture as one frame, or a clip, in 0..1."""
    if file.suffix == ".mp4":
        return InputImpl.VideoFromFile(str(file)).get_components().images
    with Image.open(file) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255.0).unsqueeze(0)


def read_samples(what: str) -> list[tuple[Tensor, str]]:
    """The pictures or clips of a concept, each with its caption, in which the concept stands as `<what>`.

    Raises CCVDError when there are none.
    """
    if not (FOLDER / what).is_dir():
        raise CCVDError(
            f"The pack has no demo pictures of {what!r} (in demo/pictures). Choose one of: "
            f"{', '.join(demo_concepts())}. If it is one of them, install the pack again."
        )
    files = sorted(path for path in (FOLDER / what).iterdir() if path.suffix in (".png", ".mp4"))
    return [(read_media(file), file.with_suffix(".txt").read_text(encoding="utf-8").strip()) for file in files]


def read_named(what: str, name: str) -> tuple[list[Tensor], list[str]]:
    """The pictures or clips, and their captions, in which the concept stands as `<name>`. Raises CCVDError."""
    media, captions = zip(*read_samples(what), strict=True)
    return list(media), [caption.replace(f"<{what}>", f"<{name}>") for caption in captions]


def moments(media: Sequence[Tensor]) -> Float[Tensor, "pictures height width 3"]:
    """Every picture, and of every clip its beginning, middle and end."""
    return torch.cat([frames[spread(len(frames), MOMENTS)] for frames in media])


def notes_on_media(backbone: Backbone, media: Sequence[Float[Tensor, "1 3 frames height width"]]) -> list[str]:
    """One line if a base that knows little is to learn from other pictures than the pack's; none on any other base."""
    knows = backbone.video.knows
    if not knows or all(map(comes_with_the_pack, media)):
        return []
    return [f"The demo model only knows {knows}: of a photo it makes a blot. Photos need a full-size model."]


def comes_with_the_pack(pixels: Float[Tensor, "1 3 frames height width"]) -> bool:
    """Whether a picture, or the first frame of a clip, is one of Demo Pictures."""
    first = pixels[:, :, 0].float().cpu()
    shipped = torch.nn.functional.interpolate(shipped_pictures(), first.shape[-2:], mode="area")
    return bool((shipped - first).abs().mean((1, 2, 3)).min() < ALIKE)


@cache
def shipped_pictures() -> Float[Tensor, "pictures 3 height width"]:
    """The first frame of everything that the pack brings."""
    frames = [sample[0] for what in demo_concepts() for sample, _ in read_samples(what)]
    return torch.stack(frames).permute(0, 3, 1, 2)
