"""Which steps take part: those of the whole schedule, however it is split."""

from __future__ import annotations

import math

import pytest

from ccvd_core.backbones.noise_path import FlowPath, shifted
from ccvd_core.regions.merging import RegionSettings
from ccvd_core.regions.steps import RegionSchedule, StepParts, region_schedule

ALL, NONE = StepParts(True, True, True), StepParts(False, False, False)


def schedule(settings: RegionSettings, shift: float = 3.0) -> RegionSchedule:
    return region_schedule(settings, lambda share: shifted(1 - share, shift))


@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("twentieths", range(21))
def test_a_share_of_a_whole_schedule_is_that_share_of_its_steps_rounded_up(twentieths: int, shift: float):
    share = twentieths / 20
    decide = schedule(RegionSettings(contrast_steps=share), shift)
    for steps in range(1, 50):
        taken = [decide.step(float(t)).contrasted for t in FlowPath(shift).times(steps)[:-1]]
        assert taken == [step < math.ceil(share * steps - 1e-9) for step in range(steps)], steps


def test_every_mode_has_its_own_shares():
    shares = {"region_steps": 0.3, "bootstrap_steps": 0.9, "contrast_steps": 0.6}

    def counts(mode) -> list[int]:
        steps = [schedule(RegionSettings(mode, **shares)).step(float(t)) for t in FlowPath().times(10)[:-1]]
        return [sum(getattr(step, part) for step in steps) for part in ("merged", "bootstrapped", "contrasted")]

    assert counts("attention") == [0, 0, 6]
    assert counts("one at a time") == counts("paper") == [3, 0, 6]
    assert counts("paper + bootstrap") == [3, 3, 6]


def test_any_share_has_the_first_step_and_a_whole_one_the_last():
    tiny = schedule(RegionSettings("paper + bootstrap", 1e-4, bootstrap_steps=1e-4, contrast_steps=1e-4))
    assert tiny.step(1.0) == ALL and tiny.step(0.99) == NONE
    whole = schedule(RegionSettings("paper + bootstrap", 1.0, bootstrap_steps=1.0, contrast_steps=1.0))
    assert whole.step(1e-3) == ALL


def test_a_sampler_that_asks_within_a_step_gets_the_steps_answer():
    decide = schedule(RegionSettings(contrast_steps=0.5), shift=1.0)
    levels = [1.0, 0.6, 0.2, 0.0]
    asked = [decide.step(level, levels).contrasted for level in (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)]
    assert asked == [True, True, True, True, False, False]
    # Without its steps, the level alone counts.
    assert not decide.step(0.4).contrasted


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_split_decides_as_the_whole_schedule(cut: int):
    decide = schedule(RegionSettings("paper + bootstrap", 0.7, bootstrap_steps=0.3, contrast_steps=0.5))
    levels = FlowPath().times(10).tolist()
    parts = [decide.step(level, levels[: cut + 1]) for level in levels[:cut]]
    parts += [decide.step(level, levels[cut:]) for level in levels[cut:-1]]
    assert parts == [decide.step(level, levels) for level in levels[:-1]]
