"""The fewest keyframes that describe a path of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .geometry import Box
from .layout import MAX_KEYFRAMES

TOLERANCE = 0.02
"""How far an edge of the box may be from the path: this share of the frame."""
EASING = 1.25
"""By how much the tolerance grows where it needs more keyframes than a layout takes."""
ROUNDING = 1e-9


def simplify(
    times: Sequence[float],
    boxes: Sequence[Box],
    tolerance: float = TOLERANCE,
    most: int = MAX_KEYFRAMES,
    open_start: bool = True,
    open_end: bool = True,
) -> list[int]:
    """Which boxes of a path to keep as keyframes: the fewest with which no edge is ever off by more than `tolerance`.

    Between keyframes a box moves evenly, before the first and after the last it stands still (`Region.box_at`). At an
    end that is not open the path's own last box is kept: other keyframes may follow there. Where `most` are too few for
    the tolerance, it is eased until they do.
    """
    if not times or len(times) != len(boxes):
        raise ValueError(f"simplify needs as many times as boxes, at least one; got {len(times)} and {len(boxes)}.")
    if any(after <= before for before, after in pairwise(times)):
        raise ValueError("simplify needs times in ascending order.")
    if most < 2 or tolerance <= 0:
        raise ValueError(f"simplify needs at least 2 keyframes and a tolerance above 0; got {most} and {tolerance}.")
    moments, path = np.asarray(times, np.float64), edges(boxes)
    while True:
        kept = fewest(moments, path, tolerance, open_start, open_end)
        if len(kept) <= most:
            return kept
        tolerance *= EASING


def edges(boxes: Sequence[Box]) -> Float[ndarray, "moments 4"]:
    """Left, top, right and lower edge."""
    x, y, width, height = np.asarray(boxes, np.float64).T
    return np.stack([x, y, x + width, y + height], axis=1)


def fewest(
    times: Float[ndarray, " moments"],
    path: Float[ndarray, "moments values"],
    tolerance: float,
    open_start: bool,
    open_end: bool,
) -> list[int]:
    """The shortest way through the graph in which two moments are joined if the straight line between them will do.

    A line from moment i does for moment k if its slope is within (path[k] ± tolerance - path[i]) / (t[k] - t[i]); all
    slopes that do for everything up to k are the running intersection of these intervals (Imai and Iri 1988), so that
    each moment is looked at once per start: quadratic in the moments.
    """
    count = len(times)
    slack = tolerance + ROUNDING
    cost, before = np.full(count, count + 1), np.full(count, -1)
    cost[0] = 1
    if open_start:
        reach = np.maximum.accumulate(path) - slack, np.minimum.accumulate(path) + slack
        cost[((path >= reach[0]) & (path <= reach[1])).all(1)] = 1
    for start in range(count - 1):
        spans = (times[start + 1 :] - times[start])[:, None]
        ahead = path[start + 1 :] - path[start]
        low = np.maximum.accumulate((ahead - slack) / spans)
        high = np.minimum.accumulate((ahead + slack) / spans)
        slopes = ahead / spans
        # The line to its own end always does: whatever is checked there is only rounding.
        fits = ((slopes >= low) & (slopes <= high)).all(1)
        better = fits & (cost[start] + 1 < cost[start + 1 :])
        cost[start + 1 :][better] = cost[start] + 1
        before[start + 1 :][better] = start
    ends = np.zeros(count, bool)
    ends[-1] = True
    if open_end:
        backwards = path[::-1]
        top, bottom = np.maximum.accumulate(backwards)[::-1], np.minimum.accumulate(backwards)[::-1]
        ends = ((path >= top - slack) & (path <= bottom + slack)).all(1)
    last = min(np.flatnonzero(ends), key=lambda index: (cost[index], -index))
    kept = [int(last)]
    while before[kept[-1]] >= 0:
        kept.append(int(before[kept[-1]]))
    return kept[::-1]
