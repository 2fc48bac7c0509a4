"""Clips at a base model's own rate: which frames, which windows, and how much one lesson may hold."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccvd_core.backbones.video_form import VideoForm
from ccvd_core.errors import MediaError
from ccvd_core.learning.clips import UNIFORM_WINDOWS, ClipCut, LessonBudget, cut_images, window_starts

SIZE = (4, 4)
made = partial(ClipCut, frame_step=4)
"""As a model cuts that makes clips of 4 k + 1 frames."""


def counted(frames: int) -> Tensor:
    """A clip whose frame n is of the grey n / 255."""
    return (torch.arange(frames) / 255).view(-1, 1, 1, 1).expand(-1, *SIZE, 3)


def numbers(pieces: list[Tensor]) -> list[list[int]]:
    """Which frames of `counted` stand in each window."""
    return [piece[0, 0, :, 0, 0].tolist() for piece in pieces]


def cut(frames: int, rate: float, how: ClipCut, budget: LessonBudget | None = None) -> list[list[int]]:
    return numbers(cut_images(counted(frames), rate, "Clip 2", how, lambda *_: SIZE, budget or LessonBudget()))


def test_a_clip_is_taken_at_the_bases_rate_and_not_as_a_time_lapse() -> None:
    """Nine frames of five seconds at 24 fps, for a base of 16: half a second, not five."""
    assert cut(120, 24, made(16, 9)) == [[0, 1, 3, 4, 6, 7, 9, 10, 12]]
    assert cut(120, 16, made(16, 9)) == [list(range(9))]
    assert cut(120, 8, made(16, 9)) == [[0, 0, 1, 1, 2, 2, 3, 3, 4]], "slower clips keep their speed"
    assert cut(120, 30, made(24, 5)) == [[0, 1, 2, 3, 5]]


@given(
    st.integers(1, 200),
    st.sampled_from([8.0, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0]),
    st.sampled_from([8, 16, 24]),
)
@settings(deadline=None, max_examples=20)
def test_the_frame_at_every_moment_is_the_one_that_is_shown_then(frames: int, source: float, rate: int) -> None:
    (window,) = cut(frames, source, made(rate, 129))
    there = [index for index in range(400) if index / rate < frames / source - 1e-3]
    assert window == [int((index / rate + 1e-3) * source) for index in there][: len(window)]
    assert len(window) == min(129, max(1, (len(there) - 1) // 4 * 4 + 1))


def test_windows() -> None:
    assert cut(40, 8, made(8, 9, "first")) == [list(range(9))]
    assert [window[0] for window in cut(40, 8, made(8, 9, "uniform"))] == [0, 10, 21, 31]
    assert [window[0] for window in cut(20, 8, made(8, 9, "uniform"))] == [0, 11]
    assert [window[0] for window in cut(20, 8, made(8, 9, "all"))] == [0, 6, 11]
    assert [window[0] for window in cut(9, 8, made(8, 9, "all"))] == [0]


@given(st.integers(1, 600), st.integers(1, 40))
def test_all_uses_every_frame_and_uniform_none_twice(count: int, length: int) -> None:
    length = min(count, length)
    used = [start + number for start in window_starts(count, length, "all") for number in range(length)]
    assert set(used) == set(range(count))
    starts = window_starts(count, length, "uniform")
    used = [start + number for start in starts for number in range(length)]
    assert len(used) == len(set(used)) and max(used) < count
    assert len(starts) == min(UNIFORM_WINDOWS, count // length)
    assert window_starts(count, length, "first") == [0]


@pytest.mark.parametrize("windows", ["first", "uniform", "all"])
def test_a_clip_shorter_than_a_window_gives_the_frames_that_are_there(windows: str) -> None:
    assert cut(8, 8, made(8, 33, windows)) == [[0, 1, 2, 3, 4]]  # type: ignore[arg-type]
    with pytest.raises(
        MediaError, match=r"Clip 2 is too short: at this model's 8 frames a second it has 1, and at least 5"
    ):
        cut(4, 8, made(8, 33, windows, shortest=5))  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_windows_have_as_many_frames_as_the_model_can_make(count: int, length: int, step: int) -> None:
    windows = cut(count, 8, ClipCut(8, length, "all", frame_step=step))
    allowed = [frames for frames in range(1, min(count, length) + 1) if VideoForm(8.0, 1, 1, step).makes(frames)]
    assert {len(window) for window in windows} == {max(allowed)}


def test_one_limit_for_the_whole_lesson() -> None:
    budget = LessonBudget(limit=2 * 9 * 16)
    for _ in range(2):
        cut(40, 8, made(8, 9), budget)
    with pytest.raises(MediaError, match=r"too large for one lesson.*with Clip 2, 9 frames of 4 x 4"):
        cut(40, 8, made(8, 9), budget)
    with pytest.raises(MediaError, match="too large for one lesson"):
        cut(40, 8, made(8, 9, "all"), LessonBudget(limit=4 * 9 * 16))


def test_the_limit_is_there_before_anything_is_read() -> None:
    """NaN pixels would be refused with other words."""
    clip = torch.full((1, 1, 1, 1), float("nan")).expand(5000, 1080, 1920, 3)
    with pytest.raises(MediaError, match="too large for one lesson"):
        cut_images(clip, 24, "Clip 1", made(16, 3000), lambda *_: (1024, 1024), LessonBudget())
    with pytest.raises(MediaError, match="Picture 1 has pixels that are not numbers"):
        cut_images(clip, 24, "Clip 1", made(16, 9), lambda *_: (64, 64), LessonBudget())


def test_cuts_and_clips_that_cannot_be() -> None:
    with pytest.raises(MediaError, match="at least 1 frame; got -3"):
        made(8, -3)
    with pytest.raises(MediaError, match="clips of at least 5 frames; got 4"):
        made(8, 4, shortest=5)
    with pytest.raises(MediaError, match="above 0 frames a second"):
        made(0, 9)
    with pytest.raises(MediaError, match="Clip 1 has no frames"):
        cut_images(torch.zeros(0, 4, 4, 3), 8, "Clip 1", made(8, 9), lambda *_: SIZE, LessonBudget())
