"""The fewest keyframes of a path, against trying every choice of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccvd_core.regions.geometry import Box
from ccvd_core.regions.region import Keyframe, Region
from ccvd_core.regions.simplify import TOLERANCE, simplify

INSIDE = st.floats(0.05, 0.5)


def region(times: list[float], boxes: list[Box], kept: list[int]) -> Region:
    return Region("", "", "#000000", 1.0, tuple(Keyframe(times[index], boxes[index]) for index in kept))


def furthest(times: list[float], boxes: list[Box], kept: list[int]) -> float:
    """The largest distance of an edge between the path and what a region with these keyframes shows."""
    shown = region(times, boxes, kept)

    def sides(box: Box) -> np.ndarray:
        x, y, width, height = box
        return np.asarray([x, y, x + width, y + height])

    return max(float(np.abs(sides(shown.box_at(t)) - sides(box)).max()) for t, box in zip(times, boxes, strict=True))


def fewest_by_trying(times: list[float], boxes: list[Box], tolerance: float, pinned: set[int]) -> int:
    for count in range(1, len(times) + 1):
        for kept in combinations(range(len(times)), count):
            if pinned <= set(kept) and furthest(times, boxes, list(kept)) <= tolerance:
                return count
    raise AssertionError("all of them describe the path")


@st.composite
def paths(draw: st.DrawFn, most: int = 9) -> tuple[list[float], list[Box]]:
    count = draw(st.integers(1, most))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 5])) for _ in range(count)]
    times = (np.cumsum(steps) / sum(steps)).round(6).tolist()
    small = st.sampled_from([0.0, 0.0, 0.015, -0.015, 0.04, -0.05, 0.2])
    corners = np.cumsum([[draw(small) for _ in range(4)] for _ in range(count)], 0) * 0.3 + 0.4
    return times, [tuple(corner) for corner in corners.tolist()]


@given(paths(), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_choice_with_fewer_keyframes_would_do(
    path: tuple[list[float], list[Box]], open_start: bool, open_end: bool
) -> None:
    times, boxes = path
    kept = simplify(times, boxes, TOLERANCE, open_start=open_start, open_end=open_end)
    pinned = ({0} if not open_start else set()) | ({len(times) - 1} if not open_end else set())
    assert pinned <= set(kept)
    assert furthest(times, boxes, kept) <= TOLERANCE + 1e-8
    assert len(kept) == fewest_by_trying(times, boxes, TOLERANCE + 1e-8, pinned)


@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.floats(0.002, 0.2))
@settings(max_examples=40, deadline=None)
def test_the_box_is_within_the_tolerance_at_every_moment(seed: int, count: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    times = (np.arange(count) / (count - 1)).tolist()
    walk = 0.4 + np.cumsum(rng.normal(0, 0.01, (count, 4)), 0)
    boxes = [(x, y, abs(width) + 0.01, abs(height) + 0.01) for x, y, width, height in walk.tolist()]
    kept = simplify(times, boxes, tolerance)
    assert kept == sorted(set(kept))
    assert furthest(times, boxes, kept) <= tolerance + 1e-8


def test_what_stands_still_needs_one_keyframe_and_an_even_move_two() -> None:
    times = [index / 80 for index in range(81)]
    still: list[Box] = [(0.1, 0.2, 0.3, 0.4)] * 81
    moving: list[Box] = [(0.1 + 0.5 * t, 0.2, 0.3 - 0.1 * t, 0.4) for t in times]
    assert len(simplify(times, still)) == 1
    assert simplify(times, still, open_start=False, open_end=False) == [0, 80]
    assert len(simplify(times, moving)) == 2


def test_there_are_never_more_keyframes_than_a_layout_takes() -> None:
    times = [index / 400 for index in range(401)]
    shaking: list[Box] = [(0.3 + 0.1 * (index % 2), 0.2, 0.3, 0.4) for index in range(401)]
    assert len(simplify(times, shaking)) == 401
    assert 2 <= len(simplify(times, shaking, most=50)) <= 50


@pytest.mark.parametrize(
    ("times", "options", "words"),
    [
        ([], {}, "at least one"),
        ([0.5, 0.5], {}, "ascending"),
        ([0.0, 1.0], {"most": 1}, "at least 2 keyframes"),
        ([0.0, 1.0], {"tolerance": 0.0}, "above 0"),
    ],
)
def test_what_is_no_path_is_refused(times: list[float], options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        simplify(times, [(0.0, 0.0, 1.0, 1.0)] * len(times), **options)  # type: ignore[arg-type]
