"""What sprites and backgrounds of the world look like in cells of pixels: templates that a frame is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import world
from torch import Tensor
from torch.nn import functional
from world import SIZE

CANVAS = 64
"""Templates are drawn in the middle of a square of this many pixels."""
COARSE, FINE = 4, 2
"""Pixels per cell of the two grids. Averaging over cells is also the blur that makes soft clips comparable."""
COARSE_SIZES = (40, 44, 48, 52, 56, 60, 64)


class Template(NamedTuple):
    """Sprites at several sizes: `colour` (premultiplied by alpha) [n, 3, c, c] and `alpha` [n, 1, c, c]."""

    colour: Tensor
    alpha: Tensor


def channels_first(clip: Tensor) -> Tensor:
    """[F, H, W, 3] -> [F, 3, H, W]; refuses other shapes and values."""
    if clip.ndim != 4 or clip.shape[1:] != (SIZE, SIZE, 3) or not clip.is_floating_point():
        raise ValueError(
            f"expected a float clip of shape [frames, {SIZE}, {SIZE}, 3] in 0..1, got {clip.dtype} {tuple(clip.shape)}"
        )
    return clip.float().permute(0, 3, 1, 2)


def shrink(picture: Tensor, cell: int) -> Tensor:
    """Mean over cells of `cell` x `cell` pixels of [n, c, h, w]."""
    return functional.avg_pool2d(picture, cell)


def difference(picture: Tensor, background: str, style: str, cell: int) -> Tensor:
    """Frames [F, 3, H, W] minus the background, per cell."""
    return shrink(picture, cell) - rows_of(background, style, cell)[None, :, :, None]


@cache
def rows_of(background: str, style: str, cell: int) -> Tensor:
    """Colour of a background in a style per row of cells, [3, rows]."""
    column = world.apply_style(world.background_image(background)[None], style)[0, :, 0]
    return torch.from_numpy(column / 255.0).float().view(SIZE // cell, cell, 3).mean(1).T


@cache
def templates(subjects: tuple[str, ...], sizes: tuple[int, ...], cell: int) -> tuple[Template, Tensor]:
    """Every subject at every size, subjects outermost, and the silhouettes (grown by one cell) [n, 1, c, c]."""
    middle = np.asarray([CANVAS / 2, CANVAS / 2])
    drawn = [
        np.asarray(world.place(world.load_sprite(subject), size, middle, CANVAS), np.float32) / 255
        for subject in subjects
        for size in sizes
    ]
    picture = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
    alpha = picture[:, 3:]
    template = Template(shrink(picture[:, :3] * alpha, cell), shrink(alpha, cell))
    silhouette = (functional.max_pool2d(template.alpha, 3, 1, 1) > 0.1).float()
    return template, silhouette


def draw(template: Template, tops: Sequence[int], background: str, style: str, cell: int) -> Tensor:
    """What sprites add to the background when their canvas begins at the given rows: [tops, n, 3, c, c]."""
    rows, styled = rows_of(background, "plain", cell), rows_of(background, style, cell)
    index = (torch.tensor(tops)[:, None] + torch.arange(CANVAS // cell)).clamp(0, SIZE // cell - 1)
    behind, behind_styled = (c[:, index].permute(1, 0, 2)[:, None, :, :, None] for c in (rows, styled))
    added = restyle(template.colour + (1 - template.alpha) * behind, style) - behind_styled
    return added * (template.alpha > 0)


def restyle(picture: Tensor, style: str) -> Tensor:
    """`world.apply_style` on float pictures [..., 3, h, w] in 0..1."""
    if style == "plain":
        return picture
    if style == "negative":
        return 1 - picture
    light = torch.einsum("...chw,c->...hw", picture, torch.tensor([0.299, 0.587, 0.114]))[..., None, :, :]
    if style == "noir":
        return ((light - 0.5) * 1.6 + 0.5).clamp(0, 1).expand(picture.shape)
    if style == "blueprint":
        dark, bright = (torch.tensor(c)[:, None, None] / 255 for c in ([10.0, 30.0, 110.0], [190.0, 220.0, 255.0]))
        return dark + (bright - dark) * light
    raise ValueError(f"unknown style {style!r}: expected one of {world.STYLES}")


@cache
def coarse_bank(subjects: tuple[str, ...], background: str, style: str) -> Tensor:
    """All subjects at all coarse sizes as drawn in the middle of the frame, [subjects, sizes, 3, c, c]."""
    template, _ = templates(subjects, COARSE_SIZES, COARSE)
    drawn = draw(template, [(SIZE - CANVAS) // 2 // COARSE], background, style, COARSE)[0]
    return drawn.unflatten(0, (len(subjects), len(COARSE_SIZES)))
