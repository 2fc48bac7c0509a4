"""The editing benchmark: its measures on clips that the world draws itself, and a small run of every row."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from base import KNOWN
from bases import load_demo
from tasks_of_editing import MOTIONS, STYLES, SUBJECTS, Edit, edits, psnr, replaced, restyled, transferred
from torch import Tensor

from tests.demo.untrained import untrained

ROOT = Path(__file__).resolve().parents[2]


def drawn(scene: object) -> Tensor:
    return torch.from_numpy(scene.render()).float() / 255  # type: ignore[attr-defined]


def test_a_clip_that_became_what_was_wanted_is_right_in_everything():
    """But for a few whose colours are those of what is behind them: a yellow star on sand, both turned blue."""
    for plans, measure in ((STYLES, restyled), (SUBJECTS, replaced), (MOTIONS, transferred)):
        found = [measure(edit, drawn(edit.wanted)) for edit in edits(plans, 6, 1, KNOWN)]
        assert min(np.mean([one[metric] for one in found]) for metric in found[0]) > 0.8, found


def test_an_unchanged_clip_has_nothing_of_the_concept():
    for plans, measure, missing in ((STYLES, restyled, "style"), (SUBJECTS, replaced, "placed")):
        assert all(measure(edit, edit.clip())[missing] == 0 for edit in edits(plans, 4, 2, KNOWN))


def test_a_path_that_left_its_place_is_not_kept():
    edit = edits(STYLES, 1, 3, KNOWN)[0]
    (actor,) = edit.wanted.actors
    x, y = actor.start
    away = replace(actor, start=(x + (12 if x < 64 else -12), y))
    assert restyled(edit, drawn(replace(edit.wanted, actors=(away,))))["path_kept"] == 0


def test_the_drawn_box_holds_the_object_in_every_frame():
    for edit in edits(SUBJECTS, 6, 4, KNOWN):
        (region,) = edit.regions().regions
        for index, (x, y, size, _) in enumerate(edit.source.actors[0].placed()):
            left, top, width, height = (128 * share for share in region.box_at(index / 8))
            assert left <= x - 0.45 * size and x + 0.45 * size <= left + width
            assert top <= y - 0.45 * size and y + 0.45 * size <= top + height


def test_psnr_is_of_the_chosen_pixels_alone():
    one = torch.zeros(2, 4, 4, 3)
    other = one.clone()
    other[:, :2] = 0.1
    upper = torch.zeros(2, 4, 4, dtype=torch.bool)
    upper[:, :2] = True
    assert psnr(one, other, upper) == pytest.approx(20.0, abs=1e-3)
    assert psnr(one, other, ~upper) == pytest.approx(100.0)


def test_the_sentence_names_the_concept_or_its_class():
    edit: Edit = edits(SUBJECTS, 1, 5, KNOWN)[0]
    assert "<rex>" in edit.prompt() and "a dog" in edit.plain_prompt() and "rex" not in edit.plain_prompt()


def editing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_editing", ROOT / "benchmarks" / "editing" / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["restyle a video", "replace a subject", "transfer a motion"])
def test_every_row_of_a_task_is_measured(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    module, base = editing(), load_demo()
    monkeypatch.setattr(module, "STEPS", 3)
    concepts = {plan.name: untrained(base, plan) for plan in module.TASKS[name].plans}
    rows = list(module.rows_of(name, base, concepts, 2, 7, tmp_path))
    assert {row.method for row in rows} == {"ceiling", *module.TASKS[name].methods}
    assert all(np.isfinite(row.value) for row in rows)
    assert len(list(tmp_path.glob("*.png"))) == 1 + len(module.TASKS[name].methods)
    outside = {row.method: row.value for row in rows if row.metric == "psnr_outside"}
    assert (name == "replace a subject") == bool(outside)
    # Away from the box the clip stays the source, whatever is drawn inside.
    assert all(value > 25 for value in outside.values())
