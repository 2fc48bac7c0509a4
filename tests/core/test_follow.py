"""Following an object through clips that are drawn here, so that it is known where it is in every frame."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from ccvd_core.regions.follow import follow
from ccvd_core.regions.geometry import Box
from ccvd_core.regions.region import Region
from ccvd_core.regions.simplify import TOLERANCE
from ccvd_core.regions.track import FollowError, Track, keyframes_of

ACROSS, DOWN = 160, 120
Frame = np.ndarray


def cloth(seed: int, down: int, across: int, fine: int = 4) -> Frame:
    """A picture of soft spots, different for each seed: uint8 [down, across, 3]."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 255, (down // fine + 3, across // fine + 3, 3))
    rows, columns = np.arange(down) / fine, np.arange(across) / fine
    for axis, places in enumerate((rows, columns)):
        low = places.astype(int)
        share = (places - low).reshape([-1 if at == axis else 1 for at in range(3)])
        spots = np.take(spots, low, axis) * (1 - share) + np.take(spots, low + 1, axis) * share
    return spots.round().astype(np.uint8)


@dataclass(frozen=True)
class Sprite:
    """A square of cloth with its centre and size (pixels) at each time 0..1, and its turn in radians."""

    course: Callable[[float], tuple[float, float, float, float]]
    seed: int = 1

    def draw(self, frame: Frame, t: float) -> Frame:
        x, y, size, turn = self.course(t)
        rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
        right, below = columns + 0.5 - x, rows + 0.5 - y
        u = (np.cos(turn) * right + np.sin(turn) * below) / size + 0.5
        v = (np.cos(turn) * below - np.sin(turn) * right) / size + 0.5
        inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
        out = frame.copy()
        out[inside] = cloth(self.seed, 48, 48, 12)[(v[inside] * 48).astype(int), (u[inside] * 48).astype(int)]
        return out

    def box(self, t: float) -> Box:
        """The visible part of it, unturned, as fractions of the frame."""
        x, y, size, _ = self.course(t)
        left, right = (min(max((x + side * size / 2) / ACROSS, 0.0), 1.0) for side in (-1, 1))
        top, bottom = (min(max((y + side * size / 2) / DOWN, 0.0), 1.0) for side in (-1, 1))
        return left, top, right - left, bottom - top


PLAIN = np.full((DOWN, ACROSS, 3), (84, 148, 58), np.uint8)
BACKGROUNDS = {"plain": PLAIN, "busy": cloth(9, DOWN, ACROSS, 6)}


def clip(sprites: Sequence[Sprite], background: Frame = PLAIN, frames: int = 17) -> list[Frame]:
    drawn = []
    for index in range(frames):
        frame = background
        for sprite in sprites:
            frame = sprite.draw(frame, index / (frames - 1))
        drawn.append(frame)
    return drawn


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    sides = [max(0.0, min(one[at] + one[at + 2], other[at] + other[at + 2]) - max(one[at], other[at])) for at in (0, 1)]
    both = sides[0] * sides[1]
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def overlaps(track: Track, sprite: Sprite, frames: int = 17) -> list[float]:
    return [overlap(box, sprite.box((track.first + at) / (frames - 1))) for at, box in enumerate(track.boxes)]


COURSES: dict[str, Callable[[float], tuple[float, float, float, float]]] = {
    "still": lambda t: (80, 60, 40, 0),
    "across": lambda t: (30 + 100 * t, 60, 36, 0),
    "in a circle": lambda t: (80 + 40 * np.cos(6.3 * t), 60 + 28 * np.sin(6.3 * t), 36, 0),
    "growing": lambda t: (80, 60, 30 + 40 * t, 0),
    "shrinking": lambda t: (60 + 40 * t, 60, 70 - 40 * t, 0),
    "swinging": lambda t: (60 + 40 * t, 60, 44, 0.5 * np.sin(6.3 * t)),
    "in jumps": lambda t: (30 + 90 * (t > 0.3) * 0.25 + 60 * t, 60 - 24 * abs(np.sin(9 * t)), 34, 0),
}


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("course", COURSES)
def test_the_box_stays_on_what_moves(course: str, background: str) -> None:
    sprite = Sprite(COURSES[course])
    track = follow(clip([sprite], BACKGROUNDS[background]), 0, sprite.box(0))
    assert (track.first, track.last, track.before, track.after) == (0, 16, "", "")
    assert min(overlaps(track, sprite)) > 0.75


def test_it_is_followed_both_ways_from_the_middle() -> None:
    sprite = Sprite(COURSES["in a circle"])
    track = follow(clip([sprite], BACKGROUNDS["busy"]), 8, sprite.box(0.5))
    assert (track.first, track.last) == (0, 16)
    assert min(overlaps(track, sprite)) > 0.75


def test_of_two_the_one_in_the_box_is_followed() -> None:
    one, other = Sprite(lambda t: (30 + 100 * t, 34, 36, 0), 1), Sprite(lambda t: (130 - 100 * t, 86, 36, 0), 2)
    for sprite in (one, other):
        track = follow(clip([one, other]), 0, sprite.box(0))
        assert (track.last, min(overlaps(track, sprite)) > 0.75) == (16, True)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_what_leaves_the_frame_is_followed_to_its_edge_and_no_further(background: str) -> None:
    sprite = Sprite(lambda t: (60 + 160 * t, 60, 40, 0))
    track = follow(clip([sprite], BACKGROUNDS[background]), 0, sprite.box(0))
    assert track.after == "left" and not track.before
    assert min(overlaps(track, sprite)) > 0.6
    # Its middle is at the edge at 0.625 of the clip, frame 10; all of it is outside from 0.75 on, frame 12.
    assert 8 <= track.last <= 11
    x, _, width, _ = track.boxes[-1]
    assert x + width == pytest.approx(1.0, abs=0.02)


def test_what_comes_into_the_frame_is_lost_backwards() -> None:
    sprite = Sprite(lambda t: (-60 + 160 * t, 60, 40, 0))
    track = follow(clip([sprite], BACKGROUNDS["busy"]), 16, sprite.box(1))
    assert (track.last, track.before, track.after) == (16, "left", "")
    assert 4 <= track.first <= 8


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_what_is_covered_is_lost_and_what_covers_it_is_not_followed(background: str) -> None:
    sprite = Sprite(lambda t: (90, 60, 36, 0), 1)
    # In front of it from frame 5, when it touches, over all of it in frame 11, and on.
    cover = Sprite(lambda t: (-20 + 160 * t, 60, 64, 0), 2)
    frames = clip([sprite, cover], BACKGROUNDS[background])
    track = follow(frames, 0, sprite.box(0))
    assert track.after == "hidden"
    covered = [min(1.0, max(0.0, (-20 + 160 * at / 16 + 32 - 72) / 36)) for at in range(17)]
    assert covered[track.last] < 0.75
    assert track.last >= next(at for at, share in enumerate(covered) if share > 0) - 1
    assert min(overlaps(track, sprite)) > 0.6


def test_what_passes_behind_something_small_is_followed_on() -> None:
    sprite = Sprite(lambda t: (30 + 100 * t, 60, 40, 0), 1)
    pole = Sprite(lambda t: (80, 60, 10, 0), 2)
    track = follow(clip([sprite, pole]), 0, sprite.box(0))
    assert (track.last, track.after) == (16, "")
    assert min(overlaps(track, sprite)) > 0.7


def test_a_cut_to_another_scene_is_a_loss() -> None:
    sprite = Sprite(COURSES["across"])
    frames = clip([sprite])
    frames[9:] = [cloth(7, DOWN, ACROSS, 20)] * 8
    track = follow(frames, 0, sprite.box(0))
    assert (track.last, track.after) == (8, "hidden")


@pytest.mark.parametrize(
    ("start", "box", "words"),
    [
        (0, (0.1, 0.1, 0.2, 0.2), "all of one colour"),
        (0, (0.95, 0.4, 0.4, 0.3), "outside the frame"),
        (99, (0.4, 0.3, 0.2, 0.3), "frame 100 is none"),
    ],
)
def test_where_there_is_nothing_to_follow_it_says_what_to_do(start: int, box: Box, words: str) -> None:
    with pytest.raises(FollowError, match=words):
        follow(clip([Sprite(COURSES["still"])]), start, box)


def test_without_opencv_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(FollowError, match="pip install opencv-python"):
        follow(clip([Sprite(COURSES["still"])]), 0, (0.4, 0.3, 0.2, 0.3))


# Keyframes


def still_track(first: int, count: int, before: str = "", after: str = "") -> Track:
    return Track(first, ((0.2, 0.2, 0.2, 0.2),) * count, before, after)  # type: ignore[arg-type]


@pytest.mark.parametrize("frames", [17, 81, 9])
def test_keyframes_describe_the_track_at_every_frame_of_the_video(frames: int) -> None:
    sprite = Sprite(COURSES["in a circle"])
    track = follow(clip([sprite]), 0, sprite.box(0))
    keyframes = keyframes_of(track, 17, frames)
    assert 2 < len(keyframes) < 17
    shown = Region("", "", "#000000", 1.0, keyframes)
    for index in range(frames):
        t = index / (frames - 1)
        at = min(int(t * 16), 15)
        share = t * 16 - at
        path = [a + (b - a) * share for a, b in zip(track.boxes[at], track.boxes[at + 1], strict=True)]
        box = shown.box_at(t)
        for side in (0, 1):
            assert box[side] == pytest.approx(path[side], abs=TOLERANCE + 1e-5)
            assert box[side] + box[side + 2] == pytest.approx(path[side] + path[side + 2], abs=TOLERANCE + 1e-5)


def test_an_end_where_it_was_lost_has_a_keyframe() -> None:
    assert len(keyframes_of(still_track(0, 17), 17, 17)) == 1
    assert [key.t for key in keyframes_of(still_track(0, 9, after="left"), 17, 17)] == [0.5]
    lost = keyframes_of(still_track(4, 5, before="hidden", after="left"), 17, 33)
    assert [key.t for key in lost] == [0.25, 0.5]


def test_a_picture_is_no_video() -> None:
    with pytest.raises(FollowError, match="at least two frames"):
        keyframes_of(still_track(0, 1), 1, 17)
