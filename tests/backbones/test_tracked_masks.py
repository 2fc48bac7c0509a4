"""Masks of ComfyUI's own tracker in Region Mask: one for each frame of a video, of the clip's length or of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from tests.backbones.pack import from_pack

LENGTH, WIDTH, HEIGHT = 9, 64, 48


@pytest.fixture
def node(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> Any:
    module = from_pack("nodes.region_mask")
    monkeypatch.setattr(module, "hint", lambda _, text: module.lines.append(text))
    monkeypatch.setattr(module, "lines", [], raising=False)
    return module


def tracked(frames: int) -> torch.Tensor:
    """SAM3 Track to Mask for an object that goes from the left edge to the right, and one that is left out."""
    from comfy.ldm.sam3.tracker import pack_masks
    from comfy_extras.nodes_sam3 import SAM3_TrackToMask

    masks = torch.zeros(frames, 2, HEIGHT, WIDTH, dtype=torch.bool)
    for frame in range(frames):
        left = round(frame / (frames - 1) * 48)
        masks[frame, 0, 16:32, left : left + 16] = True
    masks[:, 1, :8] = True
    track = {"packed_masks": pack_masks(masks), "orig_size": (HEIGHT, WIDTH), "n_frames": frames}
    return SAM3_TrackToMask.execute(track, "0").result[0]


@pytest.mark.parametrize("frames", [5, 9, 33])
def test_a_tracked_object_is_a_region_over_the_whole_clip(node: Any, frames: int):
    layout = '{"version": 1, "width": 64, "height": 48, "regions": []}'
    size = {"width": WIDTH, "height": HEIGHT, "length": LENGTH}
    masks = tracked(frames)
    assert masks.shape == (frames, HEIGHT, WIDTH)
    out = node.RegionMask.execute(layout, **size, mask_batch="frames", mask_prompts="a <rex>", mask=masks)
    regions, _, boxes, _ = out.result
    assert [region.prompt for region in regions.regions] == ["a <rex>"] and len(boxes) == LENGTH
    for number, (box,) in enumerate(boxes):
        assert abs(box["x"] - 6 * number) <= 6 and (box["y"], box["width"], box["height"]) == (16, 16, 16)
    assert (boxes[0][0]["x"], boxes[-1][0]["x"]) == (0, 48)
    said = [line.partition(":")[0] for line in node.lines]
    assert said == ([] if frames == LENGTH else [f"{frames} masks for {LENGTH} frames"])
