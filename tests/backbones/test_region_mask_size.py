"""Region Mask says what large frames take before it takes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from tests.backbones.pack import from_pack

LAYOUT = json.dumps(
    {"version": 1, "width": 64, "height": 64, "regions": [{"keyframes": [{"t": 0, "box": [0.1, 0.1, 0.5, 0.5]}]}] * 4}
)
SIZE = {"layout": LAYOUT, "length": 9, "mask_batch": "regions"}


@pytest.fixture
def node(backbones: dict[str, Backbone]) -> Any:
    return from_pack("nodes.region_mask")


def test_too_little_memory_is_an_error_and_nothing_is_made(node: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(from_pack("nodes.host.region_inputs"), "get_free_memory", lambda device: 2e9)
    monkeypatch.setattr(node, "first_masks", lambda regions: pytest.fail("masks were made"))
    expected = r"4 regions at 16384 x 16384 pixels: .* 4\.3 GB of memory, and 2\.0 GB are free"
    with pytest.raises(from_pack("ccvd_core.regions.region").RegionError, match=expected):
        node.RegionMask.execute(width=16384, height=16384, **SIZE)


def test_large_masks_are_a_line_under_the_node_and_the_preview_stays_small(node: Any, monkeypatch: pytest.MonkeyPatch):
    lines: list[str] = []
    monkeypatch.setattr(from_pack("nodes.host.region_inputs"), "get_free_memory", lambda device: 1e12)
    monkeypatch.setattr(node, "hint", lambda _, text: lines.append(text))
    monkeypatch.setattr(node, "first_masks", lambda regions: torch.zeros(1, 1, 1))
    out = node.RegionMask.execute(width=16384, height=8192, **SIZE)
    assert lines == ["4 regions at 16384 x 8192 pixels: their masks take 2.1 GB of memory."]
    assert out.result[3].shape == (1, 1024, 2048, 3)
    node.RegionMask.execute(width=832, height=480, **SIZE)
    assert len(lines) == 1
