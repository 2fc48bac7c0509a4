"""What is done about regions, and in which steps: those of the whole schedule, however it is split."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import TypeGuard

import pytest

from ccvd_core.backbones.noise_path import FlowPath, shifted
from ccvd_core.errors import CCVDError
from ccvd_core.regions.modes import MODES, Background, RegionSchedule, RegionSettings, StepPlan, region_schedule

ALL, NONE = StepPlan(True, True, Background.COLOUR), StepPlan(False, False)

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = [
    path
    for folder in ("ccvd_core", "nodes")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if path.relative_to(REPOSITORY).as_posix() != "ccvd_core/regions/modes.py"
]


def schedule(settings: RegionSettings, shift: float = 3.0) -> RegionSchedule:
    return region_schedule(settings, lambda share: shifted(1 - share, shift))


@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("twentieths", range(21))
def test_a_share_of_a_whole_schedule_is_that_share_of_its_steps_rounded_up(twentieths: int, shift: float):
    share = twentieths / 20
    decide = schedule(RegionSettings(contrast_steps=share), shift)
    for steps in range(1, 50):
        taken = [decide.plan(float(t)).contrast for t in FlowPath(shift).times(steps)[:-1]]
        assert taken == [step < math.ceil(share * steps - 1e-9) for step in range(steps)], steps


def test_every_mode_has_its_own_shares():
    shares = {"region_steps": 0.3, "bootstrap_steps": 0.9, "contrast_steps": 0.6}

    def counts(mode) -> list[int]:
        plans = [schedule(RegionSettings(mode, **shares)).plan(float(t)) for t in FlowPath().times(10)[:-1]]
        parts = [(plan.merge, plan.contrast, plan.background is not Background.LATENTS) for plan in plans]
        return [sum(part) for part in zip(*parts, strict=True)]

    assert counts("attention") == [0, 6, 0]
    assert counts("one at a time") == [3, 6, 3]
    assert counts("paper") == [3, 6, 0]
    assert counts("paper + bootstrap") == [3, 6, 3]
    plan = schedule(RegionSettings("paper + bootstrap", 0.5, bootstrap_steps=0.2)).plan
    assert [plan(level).background for level in (0.99, 0.8)] == [Background.COLOUR, Background.LATENTS]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_regions_are_predicted_anew_in_every_nth_step_of_a_sampler(every: int):
    decide = schedule(RegionSettings("one at a time", region_steps=0.6, region_every=every))
    levels = FlowPath().times(10).tolist()
    plans = [decide.plan(level, levels) for level in levels[:-1]]
    assert [plan.anew for plan in plans] == [step % every == 0 for step in range(10)]
    assert decide.plan((levels[3] + levels[4]) / 2, levels).anew == plans[3].anew, "asked within a step"
    later = levels[5:]
    assert decide.plan(later[0], later).anew, "a sampler that goes on knows nothing of what was predicted before"


def test_a_number_of_steps_is_at_least_one():
    with pytest.raises(CCVDError, match="region_every counts steps and must be 1 or more; got 0"):
        RegionSettings(region_every=0)


def test_any_share_has_the_first_step_and_a_whole_one_the_last():
    tiny = schedule(RegionSettings("paper + bootstrap", 1e-4, bootstrap_steps=1e-4, contrast_steps=1e-4))
    assert tiny.plan(1.0) == ALL and tiny.plan(0.99) == NONE
    whole = schedule(RegionSettings("paper + bootstrap", 1.0, bootstrap_steps=1.0, contrast_steps=1.0))
    assert whole.plan(1e-3) == ALL


def test_a_sampler_that_asks_within_a_step_gets_the_steps_answer():
    decide = schedule(RegionSettings(contrast_steps=0.5), shift=1.0)
    levels = [1.0, 0.6, 0.2, 0.0]
    asked = [decide.plan(level, levels).contrast for level in (1.0, 0.8, 0.6, 0.4, 0.2, 0.1)]
    assert asked == [True, True, True, True, False, False]
    # Without its steps, the level alone counts.
    assert not decide.plan(0.4).contrast


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_split_decides_as_the_whole_schedule(cut: int):
    decide = schedule(RegionSettings("paper + bootstrap", 0.7, bootstrap_steps=0.3, contrast_steps=0.5))
    levels = FlowPath().times(10).tolist()
    parts = [decide.plan(level, levels[: cut + 1]) for level in levels[:cut]]
    parts += [decide.plan(level, levels[cut:]) for level in levels[cut:-1]]
    assert parts == [decide.plan(level, levels) for level in levels[:-1]]


def test_a_share_that_is_over_before_sampling_begins_is_named():
    settings = RegionSettings("paper + bootstrap", 0.6, bootstrap_steps=0.2, contrast_steps=0.4)
    assert settings.unreached(0.1) == "" and settings.unreached(0.2) == "bootstrap_steps 0.2"
    assert settings.unreached(0.7) == "region_steps 0.6, bootstrap_steps 0.2, contrast_steps 0.4"
    assert RegionSettings("one at a time", 0.6).unreached(0.6) == "region_steps 0.6"
    assert RegionSettings().unreached(0.9) == ""


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_only_the_table_knows_modes_by_name(path: Path):
    """Whatever a mode does is a field of its row: no other code asks which one it is."""
    found = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.expr)]
    names = [f"{path.name}:{node.lineno} {node.value!r}" for node in found if is_mode_name(node)]
    asked = [f"{path.name}:{node.lineno}" for node in found if isinstance(node, ast.Compare) and asks_for_mode(node)]
    assert names + asked == []


def is_mode_name(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and node.value in MODES


def asks_for_mode(node: ast.Compare) -> bool:
    return any(isinstance(side, ast.Attribute) and side.attr == "mode" for side in (node.left, *node.comparators))


def test_a_comparison_of_a_mode_is_found():
    (compared,) = [node for node in ast.walk(ast.parse('settings.mode != "paper"')) if isinstance(node, ast.Compare)]
    assert asks_for_mode(compared) and is_mode_name(compared.comparators[0])
