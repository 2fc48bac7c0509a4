"""Who is in a clip, where they go, on which background and in which style. Nothing is learned.

Analysis by synthesis: with `D` = frame - background and `t` = what a sprite adds to it at some place, size and turn,
the squared error of the frame falls by the *gain* `2 <D, t> - |t|^2` when the sprite is assumed there. The sprite of
largest gain is the maximum-likelihood explanation; it is followed through the clip, and the motion whose course fits
best names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .backgrounds import SIZE
from .motions import HELD_OUT_MOTIONS, MOTIONS, course, motion_named
from .templates import (
    CANVAS,
    COARSE,
    COARSE_SIZES,
    FINE,
    Sprite,
    coarse_bank,
    drawn_sprites,
    every_sprite,
    settings,
    shrink,
    styled_background,
)

OUTLIER = 0.02
"""Squared error (mean over colours) from which a cell counts as sprite when the background is judged."""
TIE = 0.0004
"""Settings whose errors differ by less look the same: plain walls in a sketch."""
MATCH = 0.25
"""A sprite is there when it explains at least this share of what is under it."""
RIVALS = 8
"""Drawings that the coarse search hands to the fine one."""
TURNS, SCALES = (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0), (0.88, 1.0, 1.13)
"""What a sprite may do from one frame to the next."""


@dataclass(frozen=True)
class Found:
    """One sprite in a frame: centre, size and turn; `match` is 1 for a perfect copy."""

    sprite: Sprite
    match: float
    x: float
    y: float
    size: float
    turn: float = 0.0

    def pose(self) -> NDArray[np.float64]:
        """x, y, size, turn."""
        return np.array([self.x, self.y, self.size, self.turn])


def to_cells(clip: Tensor, cell: int) -> Tensor:
    """Frames [frames, height, width, 3] in 0..1 as cells [frames, 3, rows, columns]."""
    if clip.ndim != 4 or clip.shape[1:] != (SIZE, SIZE, 3) or not clip.is_floating_point():
        raise ValueError(
            f"expected a float clip of shape [frames, {SIZE}, {SIZE}, 3] in 0..1, got {clip.dtype} {tuple(clip.shape)}"
        )
    return shrink(clip.float().permute(0, 3, 1, 2), cell)


def setting_costs(clip: Tensor, held_out: bool = True) -> dict[tuple[str, str], float]:
    """Error of every (background, style) for a clip, sprites cut off as outliers."""
    pairs, looks = settings(held_out)
    cells = to_cells(clip[:: max(1, len(clip) // 3)], COARSE)
    error = (cells[:, None] - looks[None]).square().mean(2)
    cost = error.clamp(max=OUTLIER).mean((0, 2, 3))
    return dict(zip(pairs, cost.tolist(), strict=True))


def find(
    frame: Tensor, background: str, style: str, most: int = 1, held_out: bool = True
) -> tuple[list[Found], Tensor]:
    """The strongest sprites of a frame [h, w, 3], upright, and the fine cells [3, h, w] with them taken out."""
    coarse = to_cells(frame[None], COARSE)[0] - styled_background(background, style, COARSE)
    fine = to_cells(frame[None], FINE)[0] - styled_background(background, style, FINE)
    found: list[Found] = []
    while len(found) < most:
        best = _strongest(coarse, fine, background, style, held_out, found)
        if best is None:
            break
        found.append(best)
        coarse, fine = (
            taken_out(cells, best, background, style, cell) for cells, cell in ((coarse, COARSE), (fine, FINE))
        )
    return found, fine


def _strongest(
    coarse: Tensor, fine: Tensor, background: str, style: str, held_out: bool, known: Sequence[Found]
) -> Found | None:
    bank = coarse_bank(held_out, background, style)
    gain = gains(coarse, bank.flatten(0, 1)).unflatten(0, bank.shape[:2])
    for other in known:
        rows, columns = (
            (torch.arange(gain.shape[-1]) * COARSE + COARSE / 2 - centre).abs() < 0.5 * other.size
            for centre in (other.y, other.x)
        )
        gain.masked_fill_(rows[:, None] & columns[None, :], -torch.inf)
    strength, place = gain.flatten(1).max(1)
    sprites = every_sprite(held_out)
    best: tuple[float, Found] | None = None
    for index in strength.topk(RIVALS).indices.tolist():
        size, row, column = np.unravel_index(int(place[index]), tuple(gain.shape[1:]))
        x, y = (float(at) * COARSE + COARSE / 2 for at in (column, row))
        refined = refine(fine, sprites[index], x, y, COARSE_SIZES[int(size)], 0.0, background, style)
        if best is None or refined[0] > best[0]:
            best = refined
    return best[1] if best is not None and best[0] > 0 and best[1].match >= MATCH else None


def gains(cells: Tensor, templates: Tensor) -> Tensor:
    """Gain of templates [n, 3, c, c] (c even) centred on each cell's middle of a frame [3, h, w]: [n, h, w]."""
    side = templates.shape[-1]
    # A template's middle lies between cells; half a cell further is close enough for a search that is refined.
    padded = functional.pad(cells, [side // 2, side // 2 - 1] * 2)
    return 2 * functional.conv2d(padded[None], templates)[0] - templates.square().sum((1, 2, 3))[:, None, None]


def refine(
    fine: Tensor, sprite: Sprite, x: float, y: float, size: float, turn: float, background: str, style: str
) -> tuple[float, Found]:
    """Gain and finding of a sprite near a place, a size and a turn, in the frame `fine` [3, h, w]."""
    sizes = [size * factor for factor in (0.92, 0.96, 1.0, 1.04, 1.08)]
    turns = [turn] * len(sizes) if turn == 0.0 else [turn] * 5
    options = list(zip(sizes, turns, strict=True))
    if turn != 0.0:
        options += [(size, turn - 10.0), (size, turn + 10.0)]
    sizes, turns = [o[0] for o in options], [o[1] for o in options]
    templates = drawn_sprites([sprite] * len(options), sizes, turns, background, style, FINE)
    side, reach = CANVAS // FINE, 3
    margin = side + reach
    padded = functional.pad(fine, [margin] * 4)
    left, top = round((x - CANVAS / 2) / FINE), round((y - CANVAS / 2) / FINE)
    patch = padded[
        :, top + margin - reach : top + margin + side + reach, left + margin - reach : left + margin + side + reach
    ]
    cross = functional.conv2d(patch[None], templates)[0]
    power = templates.square().sum((1, 2, 3))
    gain = 2 * cross - power[:, None, None]
    option, row, column = (int(i) for i in np.unravel_index(int(gain.argmax()), tuple(gain.shape)))
    under = (templates[option].abs().sum(0) > 0.02).float()
    window = patch[:, row : row + side, column : column + side]
    energy = float((window.square().sum(0) * under).sum().clamp_min(power[option]))
    found = Found(
        sprite,
        1 - (energy - float(gain[option, row, column])) / energy,
        (left + column - reach) * FINE + CANVAS / 2,
        (top + row - reach) * FINE + CANVAS / 2,
        sizes[option],
        turns[option],
    )
    return float(gain[option, row, column]), found


def taken_out(cells: Tensor, found: Found, background: str, style: str, cell: int) -> Tensor:
    """A frame's differences [3, h, w] without what lies under a found sprite."""
    template = drawn_sprites([found.sprite], [found.size * 1.08], [found.turn], background, style, cell)[0]
    under = functional.max_pool2d((template.abs().sum(0) > 0.02).float()[None, None], 3, 1, 1)[0, 0]
    side, margin = CANVAS // cell, CANVAS // cell
    top, left = (round((at - CANVAS / 2) / cell) + margin for at in (found.y, found.x))
    padded = functional.pad(cells, [margin] * 4)
    padded[:, top : top + side, left : left + side] *= 1 - under
    return padded[:, margin:-margin, margin:-margin]


def follow(clip: Tensor, first: Found, background: str, style: str) -> list[Found]:
    """A sprite through a clip [frames, h, w, 3], from where it is in the first frame."""
    fine = to_cells(clip, FINE) - styled_background(background, style, FINE)
    coarse = to_cells(clip, COARSE) - styled_background(background, style, COARSE)
    path = [first]
    grid = torch.arange(SIZE // COARSE) * float(COARSE) + COARSE / 2
    options = [(scale, turn) for scale in SCALES for turn in TURNS]
    for number in range(1, len(clip)):
        last = path[-1]
        sizes = [min(88.0, max(20.0, last.size * scale)) for scale, _ in options]
        turns = [last.turn + turn for _, turn in options]
        templates = drawn_sprites([first.sprite] * len(options), sizes, turns, background, style, COARSE)
        gain = gains(coarse[number], templates)
        power = templates.square().sum((1, 2, 3)).mean()
        leap = ((grid[None, :] - last.x).square() + (grid[:, None] - last.y).square()) / SIZE**2
        change = torch.tensor([abs(turn) / 600 + abs(math.log(scale)) / 8 for scale, turn in options])
        price = power * (leap[None] + change[:, None, None])
        option, row, column = (int(i) for i in np.unravel_index(int((gain - price).argmax()), tuple(gain.shape)))
        x, y = float(grid[column]), float(grid[row])
        path.append(refine(fine[number], first.sprite, x, y, sizes[option], turns[option], background, style)[1])
    return path


@cache
def courses(frames: int) -> tuple[tuple[str, str, NDArray[np.float64]], ...]:
    """Every motion at a few amounts of each of its speeds: name, speed, course [frames, 4] (log scale)."""
    rows = []
    for name in (*MOTIONS, *HELD_OUT_MOTIONS):
        for speed, (low, high) in motion_named(name).amounts.items():
            for amount in sorted({low, (low + high) / 2, high}):
                moves = course(name, amount, frames)
                rows.append((name, speed, np.stack([moves.x, moves.y, np.log(moves.scale), moves.turn], -1)))
    return tuple(rows)


def name_motion(poses: NDArray[np.float64]) -> tuple[str, str]:
    """The motion and the speed whose course fits poses [frames, 4] (x, y, size, turn) best.

    Least squares over where the course begins, in units of what a pose is read to: 3 pixels, 6 % of a size, 15 degrees.
    """
    seen = poses.copy()
    seen[:, 2] = np.log(seen[:, 2])
    units = np.array([3.0, 3.0, 0.06, 15.0])
    errors = []
    for _, _, way in courses(len(poses)):
        off = (seen - way) / units
        off[:, :3] -= off[:, :3].mean(0)  # every actor begins upright
        errors.append(np.minimum(np.square(off), 16.0).sum())
    name, speed, _ = courses(len(poses))[int(np.argmin(errors))]
    return name, speed
