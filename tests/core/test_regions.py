"""Regions from masks and boxes, and where they are in pixels."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from ccvd_core.backbones.grid import TokenGrid
from ccvd_core.regions.geometry import box_pixels, token_edges
from ccvd_core.regions.inputs import boxes_as_regions, painted_regions, spread_note
from ccvd_core.regions.masks import region_masks
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionError, RegionSet, Shape


def box(x: float = 0, y: float = 0, width: float = 10, height: float = 10, **more: object) -> dict[str, object]:
    return {"x": x, "y": y, "width": width, "height": height, **more}


def moving(*keyframes: tuple[float, tuple[float, float, float, float]]) -> Region:
    return Region("a", "", "#ffffff", 1.0, tuple(Keyframe(t, box) for t, box in keyframes))


def test_each_mask_is_a_region_with_its_prompt():
    masks = torch.zeros(2, 4, 6)
    masks[0, 0, 0], masks[1, 3, 5] = 1, 1.1
    first, second = painted_regions(masks, ["a <rex>"], per_frame=False)
    assert (first.prompt, second.prompt) == ("a <rex>", "")
    assert first.mask.shape == second.mask.shape == (1, 4, 6)
    assert float(second.mask.max()) == 1.0 and not second.moves


def test_a_mask_per_frame_is_one_region_that_moves():
    masks = torch.zeros(3, 4, 4)
    masks[1] = 1
    (region,) = painted_regions(masks, ["x", "y"], per_frame=True)
    assert region.mask.shape == (3, 4, 4) and region.prompt == "x" and region.moves


@pytest.mark.parametrize("count", [2, 5, 9, 10, 81])
def test_masks_of_another_number_than_the_frames_are_spread_over_the_clip(count: int):
    """As a tracker gives them for a video of another length: in mask n, column n of all is painted."""
    masks = torch.zeros(count, 2, count)
    masks[range(count), :, range(count)] = 1
    (region,) = painted_regions(masks, [], per_frame=True)
    frames = 9
    seen = [region.mask_at(frame / (frames - 1), count, 2)[0].nonzero().flatten().tolist() for frame in range(frames)]
    assert all(len(columns) == 1 for columns in seen)
    columns = [columns[0] for columns in seen]
    assert columns[0] == 0 and columns[-1] == count - 1
    assert all(abs(column - frame / (frames - 1) * (count - 1)) <= 0.5 for frame, column in enumerate(columns))
    note = spread_note(masks, True, frames)
    assert note.startswith(f"{count} masks for 9 frames") if count != frames else note == ""
    assert spread_note(masks, False, frames) == "" and spread_note(masks[:1], True, frames) == ""


def test_a_tracked_object_that_is_gone_for_a_while_has_no_token_then():
    masks = torch.zeros(9, 8, 8)
    masks[:3, :, :4] = masks[6:, :, 4:] = 1
    (region,) = painted_regions(masks, [], per_frame=True)
    laid = region_masks(RegionSet(64, 64, (region,)), TokenGrid(9, 2, 2))[1].view(9, 2, 2)
    assert laid[:, 0].tolist() == [[1, 0]] * 3 + [[0, 0]] * 3 + [[0, 1]] * 3


@pytest.mark.parametrize(
    ("masks", "per_frame", "words"),
    [
        (torch.zeros(1, 4, 4), False, "On mask 1 nothing is painted"),
        (torch.cat([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)]), False, "On mask 2 nothing is painted"),
        (torch.full((1, 4, 4), math.nan), False, "not numbers"),
        (torch.full((1, 4, 4), math.inf), False, "not numbers"),
        (torch.full((1, 4, 4), 255.0), False, "from 0 to 1; got 255 to 255"),
        (torch.ones(0, 4, 4), False, r"got \[0, 4, 4\]"),
        (torch.ones(1, 1, 4, 4), False, r"got \[1, 1, 4, 4\]"),
        (torch.ones(65, 2, 2), False, "at most 64.*set `mask_batch` to frames"),
        (torch.zeros(4, 2, 2), True, "On mask 1 nothing is painted"),
    ],
)
def test_masks_that_cannot_be_used(masks: torch.Tensor, per_frame: bool, words: str):
    with pytest.raises(RegionError, match=words):
        painted_regions(masks, [], per_frame)


def test_frames_of_boxes_are_keyframes():
    still, walks = boxes_as_regions(
        [[box(0, 0), box(0, 0, label="dog")], [box(0, 0), box(10, 20)], [box(0, 0), box(90, 40, 20)]], ["p"], 100, 50
    )
    assert still.keyframes == (Keyframe(0.0, (0.0, 0.0, 0.1, 0.2)),)
    assert (still.name, still.prompt, walks.name, walks.prompt) == ("box 1", "p", "dog", "")
    assert [keyframe.t for keyframe in walks.keyframes] == [0.0, 0.5, 1.0]
    # Cut at the right edge.
    assert walks.keyframes[2].box == pytest.approx((0.9, 0.8, 0.1, 0.2))


@pytest.mark.parametrize("boxes", [box(), [box()], [[box()]]], ids=["one box", "one frame", "frames"])
def test_the_forms_that_boxes_come_in(boxes: object):
    (region,) = boxes_as_regions(boxes, [], 20, 20)
    assert region.keyframes == (Keyframe(0.0, (0.0, 0.0, 0.5, 0.5)),)


def test_no_boxes_are_no_regions():
    assert boxes_as_regions([], [], 20, 20) == [] == boxes_as_regions([[]], [], 20, 20)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ("boxes", "`boxes`: expected a list of frames"),
        ([3], "frame 1: expected a list of boxes; got 3"),
        ([[3]], "frame 1, box 1: expected a table with x, y"),
        ([[box(x=math.nan)]], "frame 1, box 1: x: expected a finite number"),
        ([[{"x": 1}]], "frame 1, box 1: y: expected"),
        ([[box()], [box(width=0)]], "frame 2, box 1: expected a box with an area inside"),
        ([[box(x=500)]], "area inside the 100 x 50 frame"),
        ([[box(width=-5)]], "area inside"),
        ([[box()] * 65], "65 boxes in one frame"),
        ([[box()]] * 1001, "1001 frames; at most 1000"),
    ],
)
def test_boxes_that_cannot_be_used(boxes: object, words: str):
    with pytest.raises(RegionError, match=words):
        boxes_as_regions(boxes, [], 100, 50)


def test_a_region_set_bounds_its_frame_and_its_number():
    region = moving((0.0, (0, 0, 1, 1)))
    assert RegionSet(832, 480, (region,)).regions == (region,)
    with pytest.raises(RegionError, match=r"width.*got 0"):
        RegionSet(0, 480, ())
    with pytest.raises(RegionError, match=r"height.*got 20000"):
        RegionSet(832, 20000, ())
    with pytest.raises(RegionError, match="at most 64 regions; got 65"):
        RegionSet(832, 480, (region,) * 65)


@pytest.mark.parametrize("strength", [-1.0, 11.0, math.nan])
def test_a_painted_region_bounds_its_strength(strength: float):
    with pytest.raises(RegionError, match="strength from 0 to 10"):
        PaintedRegion("a", "", strength, torch.ones(1, 2, 2))


def test_a_painted_region_wants_floats():
    with pytest.raises(RegionError, match=r"got \[2, 2\] of torch\.float32"):
        PaintedRegion("a", "", 1.0, torch.ones(2, 2))
    with pytest.raises(RegionError, match="int64"):
        PaintedRegion("a", "", 1.0, torch.ones(1, 2, 2, dtype=torch.int64))


def test_pixels_of_a_box():
    assert box_pixels((0.25, 0.5, 0.5, 0.5), 8, 4) == (2, 2, 4, 2)
    # At least one pixel, and never outside.
    assert box_pixels((0.999, -0.5, 0.0001, 0.6), 8, 4) == (7, 0, 1, 1)


def test_the_mask_of_a_moving_box():
    region = moving((0.0, (0, 0, 0.5, 1)), (1.0, (0.5, 0, 0.5, 1)))
    assert region.moves
    row = [region.mask_at(t, 4, 1)[0].tolist() for t in (0.0, 0.5, 1.0)]
    assert row == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert region.pixels_at(0.5, 4, 1) == (1, 0, 2, 1)


def test_painted_masks_are_fitted_to_the_frame():
    mask = torch.zeros(2, 2, 2)
    mask[0, 0, 0], mask[1, 1, 1] = 1, 1
    region = PaintedRegion("a", "", 1.0, mask)
    assert region.mask_at(1.0, 2, 2).tolist() == [[0, 0], [0, 1]]
    assert region.mask_at(0.0, 8, 4).shape == (4, 8)
    assert region.pixels_at(1.0, 2, 2) == (1, 1, 1, 1)
    assert PaintedRegion("a", "", 1.0, torch.zeros(1, 2, 2)).pixels_at(0.0, 4, 4) == (0, 0, 1, 1)


def test_a_drawn_and_a_painted_shape_answer_alike():
    """The same left upper quarter, drawn and painted: whoever asks need not know which it is."""
    mask = torch.zeros(1, 8, 8)
    mask[:, :4, :4] = 1
    shapes: list[Shape] = [moving((0.0, (0.0, 0.0, 0.5, 0.5))), PaintedRegion("a", "", 1.0, mask)]
    edges = token_edges(4, 1.0)
    for shape in shapes:
        assert not shape.moves and shape.place_at(0.0) == shape.place_at(1.0)
        assert shape.box_at(0.5) == (0.0, 0.0, 0.5, 0.5) and shape.pixels_at(0.5, 8, 8) == (0, 0, 4, 4)
        assert torch.equal(shape.mask_at(0.5, 8, 8), mask[0])
        drawn = torch.zeros(8, 8)
        shape.draw_on(drawn, 0.5)
        assert torch.equal(drawn, mask[0])
        assert torch.equal(shape.coverage(0.5, edges, edges, 0.0).float(), mask[0, ::2, ::2])


def test_no_code_asks_which_kind_of_shape_a_region_is():
    folder = Path(__file__).resolve().parents[2]
    files = [path for part in ("ccvd_core", "nodes", "benchmarks") for path in (folder / part).rglob("*.py")]
    asks = re.compile(r"isinstance\([^)]*\b(Region|PaintedRegion|Shape)\b|\bRegion \| PaintedRegion\b")
    assert files and [path.name for path in files if asks.search(path.read_text("utf-8"))] == []
