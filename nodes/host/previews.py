"""The small pictures that concept files carry. Files come from anywhere: nothing about a picture in one is believed."""

from __future__ import annotations

import io
from collections.abc import Sequence

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ...ccvd_core.sheet import Tile, in_rows, sheet
from .pictures import DARK, to_image

FORMATS = ("WEBP", "PNG")
"""What Learn Concept writes. Pillow knows dozens, and runs a program to read some of them."""
MAX_PIXELS = 1024 * 1024
"""Sixteen times those of a preview."""
MAX_TILES, FEW_TILES, COLUMNS, FEW_COLUMNS = 64, 16, 8, 4


def decode_preview(data: bytes) -> Image.Image | None:
    """The picture, or None for what is not a small WebP or PNG picture. Its size is looked at before it is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return None if picture.width * picture.height > MAX_PIXELS else picture.convert("RGB")
    except Exception:  # of damaged pictures Pillow raises whatever its parts do: struct.error, SyntaxError, EOFError
        return None


def preview_grid(
    previews: Sequence[tuple[str, bytes]], side: int = 128
) -> tuple[Float[Tensor, "1 height width 3"] | None, list[str]]:
    """(labelled thumbnails of (name, preview), the names of those that cannot be shown).

    Of a large library the last learned; None if there is nothing to show.
    """
    shown = [(name, decode_preview(data)) for name, data in previews[-MAX_TILES:]]
    good = [(name, picture) for name, picture in shown if picture is not None]
    bad = [name for name, picture in shown if picture is None]
    if not good:
        return None, bad
    for _, picture in good:
        picture.thumbnail((side, side))
    rows = in_rows(
        [Tile(picture, f"<{name}>") for name, picture in good], FEW_COLUMNS if len(good) <= FEW_TILES else COLUMNS
    )
    footer = f"the last {len(shown)} of {len(previews)} pictures" if len(previews) > len(shown) else ""
    return to_image(sheet(rows, DARK, (side, side), footer)), bad
