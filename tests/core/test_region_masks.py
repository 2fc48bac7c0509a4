"""Regions on token grids, against the owner of every single token."""

from __future__ import annotations

import pytest
import torch

from ccvd_core.backbones.grid import TokenGrid
from ccvd_core.backbones.wan_sites import wan_grid
from ccvd_core.regions.geometry import Box
from ccvd_core.regions.masks import compose, frame_times, latent_grid, latent_masks, own_view, region_masks
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionSet, Shape
from tests.reference import regions as reference


def box(*keyframes: tuple[float, Box], strength: float = 1.0) -> Region:
    return Region("", "a dog", "#ffffff", strength, tuple(Keyframe(*keyframe) for keyframe in keyframes))


def still(*sides: float) -> Region:
    return box((0.0, sides))  # type: ignore[arg-type]


def painted(mask: torch.Tensor) -> PaintedRegion:
    return PaintedRegion("", "a dog", 1.0, mask.float())


def scene(*regions: Shape) -> RegionSet:
    return RegionSet(512, 512, regions)


def centre(index: int, tokens: int, latents: int, patch: int = 2) -> float:
    """Middle of the part of a token that shows picture."""
    return (index * patch + min((index + 1) * patch, latents)) / 2 / latents


@pytest.mark.parametrize("latents", [(1, 4, 4), (3, 5, 7), (2, 9, 4), (6, 6, 10), (21, 3, 5)])
def test_every_token_belongs_to_the_frontmost_box_that_holds_its_centre(latents: tuple[int, int, int]):
    moving = box((0.0, (0.0, 0.1, 0.5, 0.5)), (1.0, (0.5, 0.3, 0.5, 0.6)))
    regions = scene(moving, still(0.2, 0.0, 0.6, 0.7), still(0.5, 0.5, 0.5, 0.5))
    grid = wan_grid((4, *latents), (1, 2, 2))
    masks = region_masks(regions, grid).unflatten(1, (grid.frames, grid.height, grid.width))
    clip_frames = 4 * (latents[0] - 1) + 1
    for frame in range(grid.frames):
        covered = [0] if frame == 0 else range(4 * frame - 3, 4 * frame + 1)
        t = sum(covered) / len(covered) / max(1, clip_frames - 1)
        boxes = [region.box_at(t) for region in regions.regions]
        for row in range(grid.height):
            for column in range(grid.width):
                y, x = centre(row, grid.height, latents[1]), centre(column, grid.width, latents[2])
                expected = torch.zeros(4)
                expected[reference.owner(boxes, y, x)] = 1
                assert torch.equal(masks[:, frame, row, column], expected), (frame, row, column)


def test_times_of_token_frames():
    assert frame_times(TokenGrid(1, 1, 1)) == [0.0]
    assert frame_times(TokenGrid(3, 1, 1, stride=4)) == [0.0, 2.5 / 8, 6.5 / 8]
    assert frame_times(TokenGrid(3, 1, 1)) == [0.0, 0.5, 1.0]
    assert frame_times(TokenGrid(2, 1, 1, stride=4, numbers=(1, 2), clip_length=3)) == [2.5 / 8, 6.5 / 8]


def test_tokens_that_span_latent_frames():
    """Two latents a token: the clip's frames 0 to 4, then 5 to 12."""
    assert frame_times(TokenGrid(2, 1, 1, span=2, stride=4)) == [2 / 12, 8.5 / 12]
    # On the left until the second latent frame, then on the right: each latent is where it is at its own time.
    regions = scene(box((0.0, (0.0, 0.0, 0.5, 1.0)), (0.4, (0.0, 0.0, 0.5, 1.0)), (0.41, (0.5, 0.0, 0.5, 1.0))))
    shape, left, right = (4, 4, 2, 4), [1, 1, 0, 0], [0, 0, 1, 1]
    masks = latent_masks(regions, shape, TokenGrid(2, 2, 4, span=2, stride=4))[1, :, 0]
    assert masks.tolist() == [left, left, right, right]
    window = TokenGrid(2, 2, 4, span=2, stride=4, numbers=(-1, 1), clip_length=2)
    masks = latent_masks(regions, shape, window)[1, :, 0]
    assert masks.tolist() == [[0] * 4, [0] * 4, right, right]
    seen = own_view(masks.view(1, 4, 1, 4), latent_grid(shape, window))[0, :, 0]
    assert seen.tolist() == [[1] * 4, [1] * 4, right, right]


def test_masks_of_a_context_window_are_those_frames_of_the_whole_clip():
    regions = scene(box((0.0, (0.0, 0.0, 0.3, 1.0)), (1.0, (0.7, 0.0, 0.3, 1.0))))
    whole = region_masks(regions, TokenGrid(6, 4, 8)).unflatten(1, (6, 4, 8))
    part = region_masks(regions, TokenGrid(3, 4, 8, numbers=(0, 4, 5), clip_length=6)).unflatten(1, (3, 4, 8))
    assert torch.equal(part, whole[:, [0, 4, 5]])


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_masks_sum_to_one_and_full_frames_stay_full(blend: float):
    regions = scene(still(0.1, 0.1, 0.6, 0.6), still(0.4, 0.2, 0.6, 0.6), painted(torch.rand(2, 9, 7)))
    masks = region_masks(regions, TokenGrid(3, 5, 6), blend)
    torch.testing.assert_close(masks.sum(0), torch.ones(90))
    assert masks.min() >= 0
    full = region_masks(scene(still(0.0, 0.0, 1.0, 1.0)), TokenGrid(2, 3, 5), blend)
    assert torch.equal(full, torch.stack([torch.zeros(30), torch.ones(30)]))
    all_painted = region_masks(scene(painted(torch.ones(1, 7, 3))), TokenGrid(2, 3, 5), blend)
    assert torch.equal(all_painted, full)


def test_blend_mixes_overlaps_in_equal_parts_and_softens_edges():
    coverage = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert compose(coverage, 0.0).T.tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert compose(coverage, 1.0).T.tolist() == [[0, 0.5, 0.5], [0, 1, 0], [1, 0, 0]]
    row = region_masks(scene(still(0.25, 0.0, 0.5, 1.0)), TokenGrid(1, 1, 16), 0.5)[1]
    assert row[:2].tolist() == [0, 0] and row[7:9].tolist() == [1, 1]
    assert all(row[i] <= row[i + 1] for i in range(8)) and 0 < float(row[4]) < 1
    torch.testing.assert_close(row, row.flip(0))


def test_a_region_too_small_for_any_centre_gets_the_nearest_token():
    masks = region_masks(scene(still(0.51, 0.51, 0.02, 0.02)), TokenGrid(1, 4, 4)).unflatten(1, (4, 4))
    assert masks[1].nonzero().tolist() == [[2, 2]]
    outside = region_masks(scene(still(-0.5, 0.0, 0.4, 0.4)), TokenGrid(1, 4, 4))
    assert not outside[1].any()
    speck = torch.zeros(1, 64, 64)
    speck[0, 5, 60] = 1
    assert region_masks(scene(painted(speck)), TokenGrid(1, 4, 4))[1].nonzero().tolist() == [[3]]
    assert not region_masks(scene(painted(torch.zeros(1, 8, 8))), TokenGrid(1, 4, 4))[1].any()


def test_painted_masks_count_by_area_and_follow_the_clip():
    mask = torch.zeros(2, 8, 12)
    mask[0, :, :7] = 1  # the third column of three pixels is painted by a third
    mask[1, :, 9:] = 1
    masks = region_masks(scene(painted(mask)), TokenGrid(3, 2, 4)).unflatten(1, (3, 2, 4))
    assert masks[1, 0, 0].tolist() == [1, 1, 0, 0] and masks[1, 2, 0].tolist() == [0, 0, 0, 1]
    soft = region_masks(scene(painted(mask)), TokenGrid(1, 2, 4), 1.0)[1, :4]
    torch.testing.assert_close(soft, torch.tensor([1.0, 1.0, 1 / 3, 0.0]))


def test_adjacent_boxes_share_no_token_and_leave_no_gap():
    masks = region_masks(scene(still(0, 0, 0.5, 1), still(0.5, 0, 0.5, 1)), TokenGrid(1, 3, 5))
    assert not masks[0].any()


def test_tokens_around_the_grid_belong_to_the_whole_frame():
    masks = region_masks(scene(still(0.0, 0.0, 1.0, 1.0)), TokenGrid(1, 2, 2, before=3, after=1))
    assert masks.tolist() == [[1, 1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1, 1, 0]]


def test_latent_masks_have_the_latents_own_size():
    grid = wan_grid((4, 2, 5, 6), (1, 2, 2))
    masks = latent_masks(scene(still(0.0, 0.0, 0.5, 0.6)), (4, 2, 5, 6), grid)
    assert masks.shape == (2, 2, 5, 6)
    assert masks[1, 0].nonzero().tolist() == [[y, x] for y in range(3) for x in range(3)]
