"""The composition benchmark: its scenes, its measure on clips that the world draws, and a small run of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from base import KNOWN
from bases import load_demo
from cases import COMBINATIONS, PLANS, Combination, random_cases
from parts_seen import seen

from tests.demo.untrained import untrained

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("combination", COMBINATIONS.values(), ids=list(COMBINATIONS))
def test_a_real_clip_shows_every_part_and_its_sentence_names_it(combination: Combination):
    cases = random_cases(combination, 6, 1, KNOWN)
    assert cases == random_cases(combination, 6, 1, KNOWN)
    for case in cases:
        assert [plan.kind for plan in case.plans] == [*combination.kinds, *(["subject"] if combination.second else [])]
        if combination.in_regions:
            texts = " ".join(region.prompt for region in case.regions(case.plans).regions)
        else:
            texts = case.prompt(case.plans)
        assert all(f"<{plan.name}>" in texts for plan in case.plans)
        assert not any(plan.shown in texts.replace("<", " <").split() for plan in case.plans)
    right = [seen(case, torch.from_numpy(case.scene.render()).float() / 255) for case in cases]
    assert np.mean([all(answers.values()) for answers in right]) >= 0.8


def test_a_part_that_is_not_named_is_called_by_its_class():
    (case,) = random_cases(COMBINATIONS["subject + motion + style"], 1, 2, KNOWN)
    subject, motion, style = case.plans
    told = case.prompt([motion])
    assert f"a {subject.class_words} <{motion.name}>" in told and told.endswith(f"in {style.class_words} style")


def test_what_is_missing_is_not_seen():
    (case,) = random_cases(COMBINATIONS["subject + subject"], 1, 3, KNOWN)
    alone = type(case.scene)(case.scene.actors[:1], case.scene.background)
    answers = seen(case, torch.from_numpy(alone.render()).float() / 255)
    assert answers == {case.plans[0]: True, case.plans[1]: False}


def composition() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_composition", ROOT / "benchmarks" / "composition" / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("combination", ["subject + motion", "subject + motion in a region, subject beside"])
def test_every_row_of_a_combination_is_measured(combination: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    module, base = composition(), load_demo()
    monkeypatch.setattr("drawing.STEPS", 1)
    monkeypatch.setattr("regional_use.STEPS", 2)
    concepts = [untrained(base, plan) for plan in PLANS]
    trial = module.Trial(base, concepts, concepts, 5, 2, tmp_path)
    rows = list(trial.rows(combination))
    parts = ["subject", "motion", *(["second"] if COMBINATIONS[combination].second else []), "all"]
    assert [(row.method, row.metric) for row in rows] == [
        (method, part) for method in ("ccvd", "paper", "lora_stack", "part_alone") for part in parts
    ]
    assert all(0 <= row.value <= 1 for row in rows)
    assert len(list(tmp_path.glob("*.png"))) == 3
