"""What sprites add to a background, in cells of pixels: the templates that a frame is explained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .backgrounds import BACKGROUNDS, background_image
from .scenes import place
from .styles import HELD_OUT_STYLES, STYLES, apply_style
from .subjects import CLASSES, HELD_OUT, Look, held_out_subject, members, varied

CANVAS = 96
"""Templates are drawn in the middle of a square of this many pixels."""
COARSE, FINE = 4, 2
"""Pixels per cell of the two grids. Averaging over cells is also the blur that makes soft clips comparable."""
COARSE_SIZES = (36, 42, 48, 55, 63, 72)


@dataclass(frozen=True)
class Sprite:
    """A drawing that a frame may show: the word for it, its file, and whether it is mirrored."""

    word: str
    file: str
    mirrored: bool = False


@cache
def every_sprite(held_out: bool = True) -> tuple[Sprite, ...]:
    """All drawings of the base, and the held-out ones too, each both ways round."""
    subjects = [member for word in CLASSES for member in members(word)]
    if held_out:
        subjects += [held_out_subject(name) for name in HELD_OUT]
    return tuple(Sprite(subject.word, subject.file, mirrored) for subject in subjects for mirrored in (False, True))


def shrink(picture: Tensor, cell: int) -> Tensor:
    """Mean over cells of `cell` x `cell` pixels of [n, c, h, w]."""
    return functional.avg_pool2d(picture, cell)


@cache
def styled_background(background: str, style: str, cell: int) -> Tensor:
    """A background in a style, per cell: [3, rows, columns] in 0..1."""
    picture = apply_style(background_image(background)[None], style)
    return shrink(torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255, cell)[0]


def drawn_sprites(
    sprites: Sequence[Sprite], sizes: Sequence[float], turns: Sequence[float], background: str, style: str, cell: int
) -> Tensor:
    """What sprites add to a background of one colour, [n, 3, c, c]: entry k is sprite k at size k, turned by turn k.

    The colour is the background's mean; its gradient or texture under a sprite is left out.
    """
    behind = background_image(background).mean((0, 1)).round().astype(np.uint8)
    canvas = np.broadcast_to(behind, (CANVAS, CANVAS, 3))
    middle = CANVAS / 2
    pictures = np.empty((len(sprites), CANVAS, CANVAS, 3), np.uint8)
    for index, (sprite, size, turn) in enumerate(zip(sprites, sizes, turns, strict=True)):
        look = Look(mirrored=sprite.mirrored)
        rgba = np.asarray(place(varied(sprite.file, look), np.array([middle, middle, size, turn]), 1.0, CANVAS))
        alpha = rgba[..., 3:].astype(np.float32) / 255
        pictures[index] = (rgba[..., :3] * alpha + canvas * (1 - alpha)).round()
    both = apply_style(np.concatenate([pictures, canvas[None]]), style)
    cells = shrink(torch.from_numpy(both).permute(0, 3, 1, 2).float() / 255, cell)
    return cells[:-1] - cells[-1:]


@lru_cache(maxsize=6)
def coarse_bank(held_out: bool, background: str, style: str) -> Tensor:
    """Every sprite at every coarse size, upright: [sprites, sizes, 3, c, c]."""
    sprites = every_sprite(held_out)
    repeated = [sprite for sprite in sprites for _ in COARSE_SIZES]
    bank = drawn_sprites(repeated, COARSE_SIZES * len(sprites), [0.0] * len(repeated), background, style, COARSE)
    return bank.unflatten(0, (len(sprites), len(COARSE_SIZES)))


@cache
def settings(held_out: bool) -> tuple[tuple[tuple[str, str], ...], Tensor]:
    """Every (background, style) and how it looks in coarse cells, [pairs, 3, rows, columns]."""
    styles = (*STYLES, *HELD_OUT_STYLES) if held_out else tuple(STYLES)
    pairs = tuple((background, style) for style in styles for background in BACKGROUNDS)
    return pairs, torch.stack([styled_background(*pair, COARSE) for pair in pairs])
