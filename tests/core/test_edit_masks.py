"""Where an edited clip may change, against loops over every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccvd_core.regions.edit_masks import frame_masks, latent_mask
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionError, RegionSet

MOVING = Region("a", "", "", 1.0, (Keyframe(0.0, (0.0, 0.25, 0.25, 0.25)), Keyframe(1.0, (0.75, 0.25, 0.25, 0.25))))
STILL = Region("b", "", "", 1.0, (Keyframe(0.0, (0.5, 0.5, 0.25, 0.5)),))


def test_masks_hold_every_region_in_every_frame():
    regions = RegionSet(32, 16, (MOVING, STILL))
    masks = frame_masks(regions, 5, 16, 32)
    for number, mask in enumerate(masks):
        expected = torch.zeros(16, 32)
        for region in regions.regions:
            expected = torch.maximum(expected, region.mask_at(number / 4, 32, 16))
        assert torch.equal(mask, expected)


def test_grown_masks_hold_what_is_near():
    masks = frame_masks(RegionSet(32, 16, (STILL,)), 1, 16, 32, grow=3)
    inside = STILL.mask_at(0.0, 32, 16).bool()
    rows, columns = np.mgrid[0:16, 0:32]
    ys, xs = (np.array(found) for found in np.nonzero(inside.numpy()))
    distance = np.sqrt((rows[..., None] - ys) ** 2 + (columns[..., None] - xs) ** 2).min(-1)
    assert (masks[0].numpy()[distance <= 3] == 1).all()
    assert (masks[0].numpy()[distance > 4] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.sampled_from([1, 4]), st.integers(0, 10_000))
def test_a_latent_changes_if_any_of_its_pixels_may(latent_frames: int, step: int, seed: int):
    frames = step * (latent_frames - 1) + 1
    painted = (torch.rand(frames, 16, 24, generator=torch.Generator().manual_seed(seed)) > 0.97).float()
    found = latent_mask(painted, (1, 16, latent_frames, 2, 3), step)
    assert found.shape == (1, 1, latent_frames, 2, 3)
    for j in range(latent_frames):
        covered = [0] if j == 0 else range(step * (j - 1) + 1, step * j + 1)
        for row in range(2):
            for column in range(3):
                cells = painted[list(covered), 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                assert float(found[0, 0, j, row, column]) == float(cells.max())


def test_what_cannot_be_edited_is_refused():
    nothing = PaintedRegion("p", "", 1.0, torch.zeros(1, 4, 4))
    for regions in ((), (nothing,)):
        with pytest.raises(RegionError, match="no region to edit in"):
            frame_masks(RegionSet(8, 8, regions), 5, 8, 8)
    with pytest.raises(RegionError, match="expected 9 frames"):
        latent_mask(torch.ones(8, 16, 16), (1, 16, 3, 2, 2), 4)
