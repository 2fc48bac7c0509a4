"""The cost benchmark measures what it says: its slow references agree with the pack, its counts with what is there."""

from __future__ import annotations

import random

import pytest
import torch
from accounting import META, RANK, LiveBytes, count_deep, count_step, latent_shape
from base import load_base
from file_cost import OVERHEAD, file_bytes, written_bytes
from retention_cost import RetentionLoop
from timing import median_ratio, take_turns
from wan_shapes import WAN, WanSize

from ccvd_core.learning.plan import learning_need
from ccvd_core.learning.retention import remember_all

SMALL = WanSize(layers=6, heads=2, ffn=512)


def test_the_loop_over_concepts_is_the_folded_penalty():
    generator = torch.Generator().manual_seed(0)

    def subspaces() -> dict[str, torch.Tensor]:
        return {site: torch.randn(24, 4, generator=generator) for site in ("a", "b")}

    earlier, new = [subspaces() for _ in range(9)], subspaces()
    folded = remember_all("subspace", earlier).loss(new)
    torch.testing.assert_close(RetentionLoop(earlier).loss(new), folded, rtol=1e-5, atol=1e-6)
    assert float(folded) > 0


@pytest.mark.parametrize("rank", [1, 16])
def test_a_files_size_is_what_the_formula_says(rank: int):
    backbone = load_base().backbone()
    written = written_bytes(backbone, rank)
    # A small file has relatively more names and offsets in it: 16 kB here.
    assert 0 <= written - file_bytes(backbone, rank) <= max(OVERHEAD * written, 16_000)


def test_live_bytes_peak_where_most_tensors_are_alive():
    with LiveBytes() as live:
        first = torch.zeros(1000, device=META)
        second = first + 1
        assert live.now == 8000
        del first
        third = second.view(10, 100)  # shares its storage
        assert live.now == 4000
        del second, third
    assert (live.now, live.peak) == (0, 8000)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_two_shallow_models_tell_a_deep_one(checkpointing: bool):
    shape = (16, 5, 32, 32)  # so many tokens that the blocks, not the text's projection, make the peak
    told = count_deep(SMALL.backbone, SMALL.layers, shape, checkpointing)
    counted = count_step(SMALL.backbone(), shape, checkpointing=checkpointing)
    assert told.flops == pytest.approx(counted.flops, rel=1e-9)
    assert told.peak_bytes == pytest.approx(counted.peak_bytes, rel=0.01)


def test_checkpointing_computes_the_blocks_once_more():
    shape = (16, 2, 8, 8)
    lean, kept = (count_step(SMALL.backbone(), shape, checkpointing=on) for on in (True, False))
    tokens, text, hidden, ffn = 2 * 4 * 4, 512, SMALL.hidden, SMALL.ffn
    linears = tokens * (6 * hidden**2 + 2 * hidden * ffn) + text * 2 * hidden**2
    attention = 2 * tokens * tokens * hidden + 2 * tokens * text * hidden
    forward = 2 * SMALL.layers * (linears + attention)
    # The adapters' own products and those that need no gradient are the rest.
    assert lean.flops - kept.flops == pytest.approx(forward, rel=0.1)
    assert lean.peak_bytes < kept.peak_bytes


@pytest.mark.parametrize("frames", [5, 33])
@pytest.mark.parametrize("name", list(WAN))
def test_what_learn_concept_says_it_needs_is_near_what_is_counted(name: str, frames: int):
    size, shape = WAN[name], latent_shape(frames, 480, 832)
    said = learning_need(size.backbone(), "subject", RANK, shape, 1, 2).activation_bytes
    assert said == pytest.approx(count_deep(size.backbone, size.layers, shape).peak_bytes, rel=0.15)


def test_ratios_are_taken_within_a_turn():
    clock = iter(random.Random(0).uniform(1, 100) for _ in range(100))
    found: list[float] = []

    def slow() -> float:
        found.append(next(clock))
        return found[-1]

    times = take_turns({"one": slow, "two": lambda: 3 * found[-1]}, 5)
    assert [len(values) for values in times.values()] == [5, 5]
    assert median_ratio(times["two"], times["one"]) == pytest.approx(3)
