"""Several processes learn as one does: by `accelerate launch` on the command line, and by their parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from base import WEIGHTS

from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.errors import CCVDError
from ccvd_core.learning.processes import ALONE, Processes
from tests.backbones.sharded_lesson import losses

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
"""Of losses and weights: gradients are added up in another order."""
STEPS = 4


def learned(folder: Path, launcher: list[str]) -> list[dict[str, Any]]:
    """What the command prints for a lesson of a few steps, run in this way."""
    words = ["learn", str(ROOT / "demo" / "pictures" / "fox"), "--model", str(WEIGHTS), "--device", "cpu", "--json"]
    lesson = [
        "--name",
        "fox",
        "--class-words",
        "dog",
        "--steps",
        str(STEPS),
        "--batch",
        "2",
        "--learning-rate",
        "0.003",
    ]
    size = ["--area", "4096", "--still-frames", "5", "--library", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "ccvd_core", *words, *lesson, *size],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def launcher(*more: str) -> list[str]:
    usual = [
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    # Port 0: any that is free.
    return ["accelerate.commands.launch", *usual, "--main_process_port", "0", *more, "-m"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, [line["loss"] for line in learned(folder, []) if "loss" in line]


def test_two_processes_learn_what_one_does(alone: tuple[Path, list[float]], tmp_path: Path):
    folder, losses = alone
    told = learned(tmp_path, launcher())
    assert [line["loss"] for line in told if "loss" in line] == pytest.approx(losses, rel=TOLERANCE)
    assert [line for line in told if "learned" in line] == [
        {"learned": "fox", "file": str(tmp_path / "fox.safetensors")}
    ]
    one, both = (ConceptLibrary(path).load("fox") for path in (folder, tmp_path))
    torch.testing.assert_close(both.tokens, one.tokens, atol=TOLERANCE, rtol=1e-2)
    for site, low_rank in one.adapters.items():
        torch.testing.assert_close(both.adapters[site].b, low_rank.b, atol=TOLERANCE, rtol=1e-2)


def test_two_processes_that_share_the_weights_out_learn_what_one_does():
    """FSDP on the processor, which accelerate itself starts on GPUs only."""
    script = ROOT / "tests" / "backbones" / "sharded_lesson.py"
    start = [
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *start, str(script), "3"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == pytest.approx(losses(3, ALONE, share_out=False), rel=TOLERANCE)


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(CCVDError, match=r"must be a multiple of 2; got 3\. Set batch to 4"):
        Processes(0, 2).check_batch(3)
    ALONE.check_batch(3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_row_is_one_process_s(count: int):
    rows = sorted(row for number in range(count) for row in Processes(number, count).share(6))
    assert rows == list(range(6))


def test_averages_are_put_in_place_in_one_message():
    sent: list[int] = []

    def mean(values: torch.Tensor) -> torch.Tensor:
        sent.append(values.numel())
        return values / 2

    tensors = [torch.ones(2, 3), torch.ones((), dtype=torch.float64), torch.ones(4, dtype=torch.float16)]
    Processes(0, 2, mean).average(tensors)
    assert sent == [11]
    assert all(torch.equal(tensor, torch.full_like(tensor, 0.5)) for tensor in tensors)
    ALONE.average([torch.ones(1)])
