"""The other ways that OpenCV offers to follow a box without a model to download."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = Sequence[NDArray[np.uint8]]
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

LEAST_POINTS = 4
ROUND_TRIP = 1.0
"""Pixels that a point may be off after going to the next frame and back."""


def multiple_instance_learning(frames: Frames, box: Box) -> list[Box | None]:
    """TrackerMIL (Babenko et al. 2009), which never says that it has lost the object."""
    down, across = frames[0].shape[:2]
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(across, round(box[0] + box[2])), min(down, round(box[1] + box[3]))
    found: list[Box | None] = [box]
    tracker = cv2.TrackerMIL.create()
    try:
        tracker.init(np.ascontiguousarray(frames[0]), (left, top, right - left, bottom - top))
        for frame in frames[1:]:
            seen, place = tracker.update(np.ascontiguousarray(frame))
            found.append((place[0], place[1], place[2], place[3]) if seen else None)
    except cv2.error:  # it asserts that there is room around the box
        found += [None] * (len(frames) - len(found))
    return found


def median_flow(frames: Frames, box: Box) -> list[Box | None]:
    """Median flow (Kalal et al. 2010): the median move and scale of points that pyramidal Lucas-Kanade finds back."""
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in frames]
    found: list[Box | None] = [box]
    current: Box | None = box
    for before, after in pairwise(grey):
        current = None if current is None else moved(before, after, current)
        found.append(current)
    return found


def moved(before: NDArray[np.uint8], after: NDArray[np.uint8], box: Box) -> Box | None:
    x, y, width, height = box
    mask = np.zeros(before.shape, np.uint8)
    mask[max(0, round(y)) : max(0, round(y + height)), max(0, round(x)) : max(0, round(x + width))] = 255
    points = cv2.goodFeaturesToTrack(before, 120, 0.01, 3, mask=mask, blockSize=3)
    if points is None or len(points) < LEAST_POINTS:
        return None
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy(), winSize=(11, 11), maxLevel=4)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, there.copy(), winSize=(11, 11), maxLevel=4)
    off = np.linalg.norm((back - points)[:, 0], axis=1)
    kept = (off < ROUND_TRIP) & (off <= np.median(off) + 1e-6) & (seen[:, 0] > 0) & (seen_back[:, 0] > 0)
    if kept.sum() < LEAST_POINTS:
        return None
    old, new = points[kept, 0], there[kept, 0]
    first, second = np.triu_indices(len(old), 1)
    apart, apart_now = (np.linalg.norm(p[first] - p[second], axis=1) for p in (old, new))
    far = apart > 2
    scale = float(np.median(apart_now[far] / apart[far])) if far.any() else 1.0
    across, down = np.median(new - old, axis=0)
    middle = x + width / 2 + float(across), y + height / 2 + float(down)
    return middle[0] - width * scale / 2, middle[1] - height * scale / 2, width * scale, height * scale
