"""Which numbers of frames a model can make, and presets whose numbers all have a source."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccvd_core.backbones.video_form import VideoForm, largest_frames
from ccvd_core.backbones.wan_families import FAMILIES
from ccvd_core.errors import CCVDError, MediaError


def form(step: int) -> VideoForm:
    return VideoForm(rate=8.0, length=1, area=1, frame_step=step)


@given(st.integers(1, 10**6), st.integers(1, 9))
def test_the_largest_number_of_frames_is_one_that_the_model_makes(count: int, step: int) -> None:
    frames = largest_frames(count, step)
    assert form(step).makes(frames)
    assert not any(form(step).makes(more) for more in range(frames + 1, count + 1))


@given(st.integers(1, 50), st.integers(1, 9))
def test_frames_of_latent_frames_are_all_that_can_be_made(latent_frames: int, step: int) -> None:
    made = [frames for frames in range(1, 50 * 9 + 2) if form(step).makes(frames)]
    assert form(step).frames(latent_frames) == made[latent_frames - 1]


@pytest.mark.parametrize("count", [0, -3])
def test_no_frames_at_all(count: int) -> None:
    with pytest.raises(MediaError, match=f"got {count}"):
        largest_frames(count, 4)


def test_the_rule_is_said_in_numbers() -> None:
    assert form(4).counts == "1, 5, 9, 13, ... (4k + 1)"
    assert form(8).counts == "1, 9, 17, 25, ... (8k + 1)"
    form(4).check_frames(9, "This")
    form(1).check_frames(8, "This")
    with pytest.raises(CCVDError, match=r"The length must be 1, 5, 9, 13, \.\.\. \(4k \+ 1\) on this model; got 8"):
        form(4).check_frames(8, "The length")
    with pytest.raises(CCVDError, match="The length must be 1 or more on this model; got 0"):
        form(1).check_frames(0, "The length")


def test_a_length_that_cannot_be_made_is_no_form() -> None:
    with pytest.raises(ValueError, match="clips of 16 frames cannot be made in steps of 4"):
        VideoForm(rate=8.0, length=16, area=1, frame_step=4)
    with pytest.raises(ValueError, match="steps of 0"):
        form(0)


def test_every_number_of_a_preset_has_a_source() -> None:
    preset = FAMILIES[0].presets["appearance"]
    with pytest.raises(ValueError, match="look at lr"):
        replace(preset, source={name: text for name, text in preset.source.items() if name != "lr"})
    with pytest.raises(ValueError, match="look at colour"):
        replace(preset, source={**preset.source, "colour": "a guess"})
    with pytest.raises(ValueError, match="look at rank"):
        replace(preset, source={**preset.source, "rank": ""})


def test_still_clips_of_every_preset_can_be_made() -> None:
    for family in FAMILIES:
        for preset in family.presets.values():
            family.video.check_frames(preset.still_frames, "still_frames")
