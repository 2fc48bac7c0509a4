"""Ways of guiding a style: what they are by their formulas, and a small run of every one of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from bases import load_demo
from guidance import CFG, WAYS, after_guidance, guided, projected, rescaled, within

from tests.demo.untrained import untrained

ROOT = Path(__file__).resolve().parents[2]


def found() -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        for seed, name in enumerate(("styled", "plain", "empty"))
    }


def test_what_every_way_becomes_where_it_changes_nothing():
    """As strong as guidance, not rescaled, with all that is parallel, at every noise level: the usual guidance."""
    usual = guided(found()["styled"], found()["empty"])
    for guide in (after_guidance(CFG), rescaled(0.0), projected(1.0), within(0.0, 1.0)):
        torch.testing.assert_close(guide(found(), 1.0), usual, atol=1e-5, rtol=1e-5)


def test_a_rescaled_prediction_has_the_positive_ones_deviation():
    whole = rescaled(1.0)(found(), 0.5)
    torch.testing.assert_close(whole.flatten(1).std(1), found()["styled"].flatten(1).std(1))


def test_a_projected_change_is_at_right_angles():
    change = projected(0.0)(found(), 0.5) - found()["styled"]
    along = (change * found()["styled"]).flatten(1).sum(1)
    torch.testing.assert_close(along, torch.zeros(2), atol=1e-4, rtol=0)


def test_outside_its_levels_there_is_no_guidance():
    torch.testing.assert_close(within(0.2, 0.6)(found(), 0.9), found()["styled"])


def styles() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_styles", ROOT / "benchmarks" / "styles" / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_way_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("guidance.STEPS", 2)
    module, base = styles(), load_demo()
    plan = module.PLANS[0]
    concept = untrained(base, plan)
    measured = list(module.rows_of(base, plan, concept, ["guided"], 1, 3, tmp_path))
    assert [row.metric for row in measured] == ["identity", "text_alignment", "object", "crispness"]
    # Judging takes most of the time, and is the same for all.
    monkeypatch.setattr(module, "concept_metrics", lambda *_: {"identity": 0.5})
    rows = list(module.rows_of(base, plan, concept, list(WAYS), 2, 3, tmp_path))
    assert [row.way for row in rows] == list(WAYS)
    assert len(list(tmp_path.glob("*.png"))) == len(WAYS)
    module.write_csv(rows, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text().startswith("way,style,seed,metric,value,number_type\nguided,noir,3,")
