"""The table of kinds, and that nothing else tells one kind from another."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from ccvd_core.concepts.kinds import KINDS, LAYERS, Kind, Part, Role
from ccvd_core.errors import CCVDError
from ccvd_core.learning.losses import motion_loss, video_loss
from ccvd_core.learning.step import LearningSettings

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = [
    path
    for folder in ("ccvd_core", "nodes", "scripts", "demo", "benchmarks")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def short(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def names_a_kind(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(part, ast.Constant) and part.value in KINDS for part in parts)


def comparisons(code: str) -> list[int]:
    """Lines in which something is compared with the name of a kind, or matched against it."""
    found = []
    for node in ast.walk(ast.parse(code)):
        compared = isinstance(node, ast.Compare) and any(map(names_a_kind, (node.left, *node.comparators)))
        matched = isinstance(node, ast.MatchValue) and names_a_kind(node.value)
        if compared or matched:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", CODE, ids=short)
def test_no_code_compares_the_name_of_a_kind(path: Path) -> None:
    assert comparisons(path.read_text("utf-8")) == []


def test_comparisons_are_found() -> None:
    code = """if kind == "motion": pass
a = x in ("subject", "style")
match kind:
    case "style": pass
b = {"motion": 1}[kind]
"""
    assert comparisons(code) == [1, 2, 4]


def test_a_row_that_nothing_shows_is_refused() -> None:
    with pytest.raises(ValueError, match="motion: 1 latent frame or more"):
        replace(KINDS["motion"], least_latent_frames=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_choice_of_layers_takes_what_it_says(kind: Kind) -> None:
    everything = {(role, part) for role in get_args(Role) for part in get_args(Part)}
    taken = {name: {pair for pair in everything if row.takes(kind, *pair)} for name, row in LAYERS.items()}
    own = {(role, part) for role, part in everything if role == KINDS[kind].role}
    assert taken["usual"] == own and taken["all"] == everything
    assert taken["text attention"] == {("subject", part) for part in get_args(Part)}
    assert taken["queries and keys"] == {(KINDS[kind].role, part) for part in ("q", "k")}
    assert len(taken) == 4, "a row that this test does not know"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_artists_are_told_of_every_choice_of_layers(language: str) -> None:
    texts = json.loads((REPOSITORY / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    tooltip = texts["CCVD_TrainingOptions"]["inputs"]["layers"]["tooltip"]
    assert [name for name in LAYERS if name not in tooltip] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_artists_are_told_of_every_kind(language: str) -> None:
    texts = json.loads((REPOSITORY / "locales" / language / "nodeDefs.json").read_text("utf-8"))
    tooltip = texts["CCVD_LearnConcept"]["inputs"]["kind"]["tooltip"]
    assert [kind for kind in KINDS if kind not in tooltip] == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_the_loss_of_its_row(kind: Kind) -> None:
    prediction, target = torch.randn(2, 2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(2))
    settings = LearningSettings(appearance_share=0.25)
    look, motion = (prediction - target).square().mean(), motion_loss(prediction, target, 0.25)
    expected = {"subject": look, "motion": motion, "style": look}[kind]
    assert torch.equal(video_loss(prediction, target, kind, settings), expected)


def test_what_moves_has_no_loss_on_single_frames() -> None:
    one = torch.zeros(1, 3, 1, 2, 2)
    for kind, row in KINDS.items():
        if row.moves:
            with pytest.raises(CCVDError, match="at least 2 latent frames"):
                video_loss(one, one, kind, LearningSettings())
        else:
            assert float(video_loss(one, one, kind, LearningSettings())) == 0
