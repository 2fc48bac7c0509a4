"""Who is in a clip, how they move, on which background and in which style: read by template matching, nothing learned.

The world draws known sprites over five known backgrounds, so a clip can be explained by analysis through synthesis.
With `D` = frame - background and `t` = what a sprite adds to the background at some place and size, the squared error
of the whole frame falls by the *gain* `2 <D, t> - |t|^2` when the sprite is assumed there. The sprite of largest gain
is the maximum-likelihood explanation; it is found on a coarse grid, refined on a finer one, removed, and the search
goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import world
from numpy.typing import NDArray
from sprite_templates import (
    CANVAS,
    COARSE,
    COARSE_SIZES,
    FINE,
    channels_first,
    coarse_bank,
    difference,
    draw,
    rows_of,
    shrink,
    templates,
)
from torch import Tensor
from torch.nn import functional
from world import SIZE, Scene

FINE_SIZES = tuple(range(38, 67, 2))
MARGIN = 24
"""Pixels of empty background added around a frame, so that templates fit at its edge."""
RIVALS = 6
"""Subjects that the coarse search hands to the fine one, per place."""
MATCH = 0.3
"""A sprite is there when its match is at least this. Softened to 28 dB, sprites match 0.4 or more (median 0.94), and a
lookalike in the place of another 0.5 to 0.8; background alone has no place of positive gain. Below the threshold
lie shapeless leftovers, so it stays low: identity is decided by the gain, not by the match."""
STILL = 8.0
"""A path that travels fewer pixels than this is still."""
OUTLIER = 0.02
"""Squared error (mean over colours) from which a pixel counts as sprite when the background is judged."""


@dataclass(frozen=True)
class Found:
    """One sprite in a frame; `match` is 1 for a perfect copy and falls below 0 where nothing is explained."""

    subject: str
    match: float
    centre: tuple[float, float]
    size: float


@dataclass(frozen=True)
class ActorReading:
    """One sprite through a clip: `path` is its centre (x, y) per frame, [frames, 2]."""

    subject: str
    motion: str
    path: NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """All that is read from a clip; `first` and `last` are what its outer frames show, largest evidence first."""

    background: str
    style: str
    actors: tuple[ActorReading, ...]
    first: tuple[Found, ...]
    last: tuple[Found, ...]


@dataclass(frozen=True)
class Score:
    """What a clip got right of its caption."""

    object: bool
    motion: bool
    background: bool
    style: bool

    @property
    def all(self) -> bool:
        """True when nothing is wrong."""
        return self.object and self.motion and self.background and self.style


class Scorer:
    """Reads clips of the world. `subjects` are the identities that compete."""

    def __init__(self, subjects: Sequence[str] = world.SUBJECTS) -> None:
        self.subjects = tuple(subjects)

    def background(self, clip: Tensor) -> str:
        """The background of a clip [F, H, W, 3] (float 0..1), whatever its style."""
        return self.setting(clip)[0]

    def style(self, clip: Tensor) -> str:
        """The style of a clip [F, H, W, 3] (float 0..1)."""
        return self.setting(clip)[1]

    def setting(self, clip: Tensor, styles: Sequence[str] = world.STYLES) -> tuple[str, str]:
        """The (background, style) whose gradient lies closest to the clip's pixels, sprites cut off as outliers."""
        cells = shrink(channels_first(clip), COARSE)
        pairs = [(background, style) for style in styles for background in world.BACKGROUNDS]
        rows = torch.stack([rows_of(background, style, COARSE) for background, style in pairs])
        error = (cells[:, None] - rows[None, :, :, :, None]).square().mean(2)  # [frames, pairs, rows, columns]
        cost = error.clamp(max=OUTLIER).mean((0, 2, 3))
        return pairs[int(cost.argmin())]

    def find(
        self, frame: Tensor, most: int = 4, background: str | None = None, style: str = "plain"
    ) -> tuple[Found, ...]:
        """The sprites in a frame [H, W, 3] (float 0..1), at most `most`, the one with the largest evidence first."""
        if background is None:
            background, _ = self.setting(frame[None], (style,))
        picture = channels_first(frame[None])
        fine = difference(picture, background, style, FINE)[0]
        coarse = difference(picture, background, style, COARSE)[0]
        found: list[Found] = []
        while len(found) < most:
            best = self._strongest(coarse, fine, background, style, found)
            if best is None:
                break
            found.append(best)
            fine = erase(fine, best, FINE)
            coarse = erase(coarse, best, COARSE)
        return tuple(found)

    def _strongest(
        self, coarse: Tensor, fine: Tensor, background: str, style: str, known: Sequence[Found]
    ) -> Found | None:
        """The sprite that explains most of what is left and does not stand where a known one stands."""
        bank = coarse_bank(self.subjects, background, style)
        gain = coarse_gain(coarse, bank)  # [subject, size, rows, columns] of centres
        for other in known:
            gain.masked_fill_(near(other.centre, 0.6 * other.size, gain.shape[-1]), -torch.inf)
        peak = int(gain.amax((0, 1)).argmax())
        if gain.amax() <= 0:
            return None
        row, column = divmod(peak, gain.shape[-1])
        window = (slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
        local = gain[(..., *window)]
        strength, place = local.flatten(1).max(1)
        refined: list[tuple[float, Found]] = []
        for index in strength.topk(min(RIVALS, len(self.subjects))).indices.tolist():
            size, y, x = np.unravel_index(int(place[index]), tuple(local.shape[1:]))
            centre = (cell_centre(window[1].start + int(x)), cell_centre(window[0].start + int(y)))
            refined.append(refine(fine, self.subjects[index], COARSE_SIZES[int(size)], centre, background, style))
        best = max(refined, key=lambda pair: pair[0])[1]
        return best if best.match >= MATCH else None

    def read(self, clip: Tensor, most: int = 4) -> Reading:
        """Everything in a clip [F, H, W, 3] (float 0..1), at most `most` sprites per frame."""
        background, style = self.setting(clip)
        first = self.find(clip[0], most, background, style)
        last = self.find(clip[-1], most, background, style)
        backwards = not first
        left = difference(channels_first(clip), background, style, FINE)
        left = left.flip(0) if backwards else left
        actors: list[ActorReading] = []
        for found in last if backwards else first:
            path = track(left, found, background, style)
            left = torch.stack(
                [erase(cells, replace(found, centre=(x, y)), FINE) for cells, (x, y) in zip(left, path, strict=True)]
            )
            if backwards:
                path = path[::-1]
            actors.append(ActorReading(found.subject, name_motion(path), path))
        return Reading(background, style, tuple(actors), first, last)

    def score(self, clip: Tensor, scene: Scene) -> Score:
        """What the clip got right of a scene."""
        subjects = [actor.subject for actor in scene.actors]
        motions = [actor.motion for actor in scene.actors]
        return self.score_caption(clip, subjects, motions, scene.background, scene.style)

    def score_caption(
        self, clip: Tensor, subjects: Sequence[str], motions: Sequence[str], background: str, style: str = "plain"
    ) -> Score:
        """What the clip got right of `subjects[i]` moving as `motions[i]` on a background in a style.

        Objects are right when the strongest `len(subjects)` sprites of the first and of the last frame are exactly the
        expected ones. Motion is judged on the sprite of the expected identity; with one expected sprite it is judged
        on the strongest one, whoever that is, so that motion and identity are scored apart.
        """
        if len(subjects) != len(motions):
            raise ValueError(
                f"expected one motion per subject, got {len(subjects)} subjects and {len(motions)} motions"
            )
        reading = self.read(clip, most=len(subjects))
        wanted = Counter(subjects)
        right = all(Counter(found.subject for found in side) == wanted for side in (reading.first, reading.last))
        if len(subjects) == 1:
            moved = [actor.motion for actor in reading.actors] == list(motions)
        else:
            moved = Counter((actor.subject, actor.motion) for actor in reading.actors) == Counter(
                zip(subjects, motions, strict=True)
            )
        return Score(right, moved, reading.background == background, reading.style == style)


def name_motion(path: NDArray[np.float64], motions: Sequence[str] = world.MOTIONS) -> str:
    """The motion whose curve fits a path [frames, 2] best, in least squares over its travel and its start.

    With path `p` and curve `c`, both centred, the travel is `a = max(0, <p, c> / <c, c>)`, the error `|p - a c|^2`.
    A straight path goes to the nearest of its neighbours (`moving right` up to 22.5 degrees, then `diagonal`).
    """
    path = path - path.mean(0)
    best, least, travel = "still", np.inf, 0.0
    for motion in motions:
        curve = world.motion_path(motion, len(path))
        curve = curve - curve.mean(0)
        if not curve.any():
            continue
        amount = max(0.0, float((path * curve).sum() / (curve * curve).sum()))
        error = float(np.square(path - amount * curve).sum())
        if error < least:
            best, least, travel = motion, error, amount * float(np.linalg.norm(np.ptp(curve, axis=0)))
    return best if travel >= STILL else "still"


def track(differences: Tensor, found: Found, background: str, style: str) -> NDArray[np.float64]:
    """Follow a sprite from the first of the frames [F, 3, h, w] on: its centres [F, 2].

    The place of best match wins, less a small price for leaps, so that a stronger neighbour does not catch the track.
    """
    template, silhouette = templates((found.subject,), (int(found.size),), FINE)
    row = round((found.centre[1] - CANVAS / 2) / FINE)
    drawn = draw(template, [row], background, style, FINE)[0]  # [1, 3, c, c]
    power = float(drawn.square().sum())
    padded = functional.pad(differences, [MARGIN // FINE] * 4)
    cross = functional.conv2d(padded, drawn)[:, 0]
    energy = functional.conv2d(padded.square().sum(1, keepdim=True), silhouette)[:, 0]
    match = 1 - (energy - 2 * cross + power) / energy.clamp(min=power)
    grid = torch.arange(match.shape[-1]) * float(FINE) + CANVAS / 2 - MARGIN
    x, y = found.centre
    path: list[tuple[float, float]] = []
    for frame in match:
        leap = ((grid[None, :] - x).square() + (grid[:, None] - y).square()) / SIZE**2
        row, column = divmod(int((frame - leap).argmax()), len(grid))
        x, y = float(grid[column]), float(grid[row])
        path.append((x, y))
    return np.asarray(path)


def refine(
    fine: Tensor, subject: str, size: int, centre: tuple[float, float], background: str, style: str
) -> tuple[float, Found]:
    """Gain and finding of a subject near a coarse place and size, in the frame `fine` [3, h, w]."""
    sizes = tuple(s for s in (size - 2, size, size + 2) if s in FINE_SIZES)
    template, silhouette = templates((subject,), sizes, FINE)
    top, left = (round((c - CANVAS / 2) / FINE) for c in (centre[1], centre[0]))
    reach = range(-2, 3)
    drawn = draw(template, [top + r for r in reach], background, style, FINE)  # [rows, sizes, 3, c, c]
    side, margin = CANVAS // FINE, MARGIN // FINE
    padded = functional.pad(fine, [margin + 2] * 4)
    y, x = top + margin, left + margin
    patch = padded[:, y : y + side + 4, x : x + side + 4]
    windows = patch.unfold(1, side, 1).unfold(2, side, 1)  # [3, rows, columns, c, c]
    cross = torch.einsum("krxij,rskij->rsx", windows, drawn)
    energy = torch.einsum("rxij,sij->rsx", windows.square().sum(0), silhouette[:, 0])
    power = drawn.square().sum((2, 3, 4))[..., None]
    gain = 2 * cross - power
    match = 1 - (energy - gain) / torch.maximum(energy, power)
    r, s, c = (int(i) for i in np.unravel_index(int(gain.argmax()), tuple(gain.shape)))
    place = ((left + c - 2) * FINE + CANVAS / 2, (top + r - 2) * FINE + CANVAS / 2)
    return float(gain[r, s, c]), Found(subject, float(match[r, s, c]), (float(place[0]), float(place[1])), sizes[s])


def coarse_gain(coarse: Tensor, bank: Tensor) -> Tensor:
    """Gain of every template of `bank` [subjects, sizes, 3, c, c] at every place of a frame [3, h, w]."""
    flat = bank.flatten(0, 1)
    cross = functional.conv2d(functional.pad(coarse, [MARGIN // COARSE] * 4)[None], flat)[0]
    gain = 2 * cross - flat.square().sum((1, 2, 3))[:, None, None]
    gain = gain.unflatten(0, bank.shape[:2])
    centres = torch.arange(gain.shape[-1]) * float(COARSE) + CANVAS / 2 - MARGIN
    half = torch.tensor(COARSE_SIZES)[:, None] / 2 - COARSE
    inside = (centres >= half) & (centres <= SIZE - half)  # [sizes, places]
    return gain.masked_fill(~(inside[:, :, None] & inside[:, None, :]), -torch.inf)


def cell_centre(index: int) -> float:
    """Pixel at which a template of the coarse grid is centred."""
    return index * float(COARSE) + CANVAS / 2 - MARGIN


def near(centre: tuple[float, float], radius: float, places: int) -> Tensor:
    """Which places of the coarse grid lie within a square around a centre, [places, places]."""
    grid = torch.arange(places) * float(COARSE) + CANVAS / 2 - MARGIN
    return ((grid[:, None] - centre[1]).abs() < radius) & ((grid[None, :] - centre[0]).abs() < radius)


def erase(cells: Tensor, found: Found, cell: int) -> Tensor:
    """A frame's differences [3, h, w] without what lies under a found sprite."""
    _, silhouette = templates((found.subject,), (int(found.size),), cell)
    margin, side = MARGIN // cell, CANVAS // cell
    y, x = (round((c - CANVAS / 2) / cell) + margin for c in (found.centre[1], found.centre[0]))
    padded = functional.pad(cells, [margin] * 4)
    padded[:, y : y + side, x : x + side] *= 1 - silhouette[0]
    return padded[:, margin:-margin, margin:-margin]
