"""What trains, samples and measures on a processor computes in the number type that it computes fast."""

from __future__ import annotations

import csv
import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import drawing
import pytest
import torch
from bases import load_demo
from diffusers import AutoencoderKLWan
from drawing import draw_prompts
from full_sequence_vae import STOCK_SHAPE
from muon import orthogonalise
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from train_vae import vae_loss

from ccvd_core import number_types
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate

ROOT = Path(__file__).resolve().parents[2]
META_SHAPES = "benchmarks/cost/wan_shapes.py"
"""Its bfloat16 is that of Wan's files, on meta tensors: nothing is computed."""


def test_no_script_chooses_bfloat16_itself():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("demo", "benchmarks", "tests/demo")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__) and path.relative_to(ROOT).as_posix() != META_SHAPES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"torch\.(bfloat16|half|float16)\b|\.bfloat16\(", line)
    ]
    assert not found


class NumberTypes(TorchDispatchMode):
    """The number types of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


def optimise() -> None:
    orthogonalise(torch.randn(1, 4, 6))


def train_the_vae() -> None:
    vae = AutoencoderKLWan(**STOCK_SHAPE)
    vae_loss(vae, vae, torch.rand(1, 3, 1, 16, 16))[0].backward()


def evaluate_a_clip() -> None:
    base = load_demo()
    with fast_autocast():
        base.model.draw(["a red ball"], [0], steps=1)
    prompts = [aggregate(base.backbone, text, ()).prompt for text in ("a red ball", "")]
    draw_prompts(base, [], prompts[:1], prompts[1], [0])


@pytest.mark.parametrize("work", [optimise, train_the_vae, evaluate_a_clip])
def test_without_instructions_for_bfloat16_nothing_is_computed_in_it(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]
):
    monkeypatch.setattr(number_types, "processor", dict)
    monkeypatch.setattr(drawing, "STEPS", 1)
    with NumberTypes() as record:
        work()
    assert torch.float32 in record.seen and torch.bfloat16 not in record.seen


def test_with_instructions_for_bfloat16_they_are_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(number_types, "processor", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for work in (optimise, train_the_vae):
        with NumberTypes() as record:
            work()
        assert torch.bfloat16 in record.seen


WITHOUT_A_MODEL = "following"
"""The benchmark of tracking, which no network takes part in."""


def test_results_files_name_the_number_type():
    files = [path for path in (ROOT / "benchmarks").rglob("*.csv") if path.parent.name != WITHOUT_A_MODEL]
    assert len(files) > 3
    for path in (ROOT / "demo" / "results.csv", *files):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["number_type"] for row in rows} <= {"float32", "bfloat16", ""}, path
        assert any(row["number_type"] for row in rows), path


def test_a_row_measured_again_on_another_processor_takes_the_place_of_the_old_one(tmp_path: Path):
    placed = benchmark("regions").Row("attention", 2, "no", 1, "placed", 0.5, "bfloat16")
    other = replace(placed, regions=3)
    again = replace(placed, value=0.25, number_type="float32")
    for rows in ([placed, other], [again]):
        benchmark("regions").write_csv(rows, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "method,regions,moving,seed,metric,value,number_type",
        "attention,3,no,1,placed,0.5000,bfloat16",
        "attention,2,no,1,placed,0.2500,float32",
    ]


def benchmark(folder: str) -> ModuleType:
    """A benchmark's run.py; all have that name."""
    spec = importlib.util.spec_from_file_location(f"run_{folder}", ROOT / "benchmarks" / folder / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
