"""Regions as a video of outlines, and as paths."""

from __future__ import annotations

import torch

from ccvd_core.regions.layout_video import layout_frames, middle_paths
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionSet

MOVING = Region("a", "", "", 1.0, (Keyframe(0.0, (0.0, 0.0, 0.25, 0.5)), Keyframe(1.0, (0.5, 0.5, 0.25, 0.5))))


def test_outlines_follow_their_regions():
    regions = RegionSet(64, 32, (MOVING,))
    frames = layout_frames(regions, 5)
    assert frames.shape == (5, 32, 64, 3)
    for number, frame in enumerate(frames):
        mask = MOVING.mask_at(number / 4, 64, 32) > 0.5
        ink = frame[..., 0] < 0.5
        rows, columns = (torch.nonzero(ink)[:, axis] for axis in (0, 1))
        inside_rows, inside_columns = (torch.nonzero(mask)[:, axis] for axis in (0, 1))
        assert abs(int(rows.min()) - int(inside_rows.min())) <= 2 and abs(int(rows.max()) - int(inside_rows.max())) <= 2
        assert abs(int(columns.min()) - int(inside_columns.min())) <= 2
        middle = (int(inside_rows.float().mean()), int(inside_columns.float().mean()))
        assert frame[middle].tolist() == [1.0, 1.0, 1.0], "an outline, not a filled box"


def test_a_painted_region_has_its_own_outline():
    painted = torch.zeros(1, 16, 16)
    painted[0, 4:12, 4:8] = 1
    frames = layout_frames(RegionSet(16, 16, (PaintedRegion("p", "", 1.0, painted),)), 2)
    assert torch.equal(frames[0], frames[1])
    assert float(frames[0, 6, 12, 0]) == 1.0 and float(frames[0, 4:12, 4:8].min()) == 0.0


def test_paths_are_the_middles_of_boxes_in_pixels():
    paths = middle_paths(RegionSet(64, 32, (MOVING, MOVING)), 3)
    expected = torch.tensor([[8.0, 8.0], [24.0, 16.0], [40.0, 24.0]])
    assert paths.shape == (3, 2, 2)
    torch.testing.assert_close(paths[:, 0], expected)
    assert middle_paths(RegionSet(8, 8, (MOVING,)), 1).shape == (1, 1, 2)
