"""The regions' masks in pixels, and what they take."""

from __future__ import annotations

import pytest
import torch

from ccvd_core.regions.pixels import check_mask_size, first_masks, mask_bytes
from ccvd_core.regions.region import Keyframe, PaintedRegion, Region, RegionError, RegionSet

BOX = Region("", "a dog", "#ffffff", 1.0, (Keyframe(0.0, (0.25, 0.5, 0.5, 0.25)), Keyframe(1.0, (0.0, 0.0, 0.5, 0.5))))


def painted(*shape: int) -> PaintedRegion:
    return PaintedRegion("", "a cat", 1.0, torch.rand(*shape, generator=torch.Generator().manual_seed(0)))


def test_first_masks_are_every_regions_at_the_beginning():
    regions = RegionSet(40, 24, (BOX, painted(2, 24, 40), painted(1, 6, 10)))
    masks = first_masks(regions)
    assert masks.shape == (3, 24, 40)
    for mask, region in zip(masks, regions.regions, strict=True):
        assert torch.equal(mask, region.mask_at(0.0, 40, 24))
    assert masks[0].nonzero().tolist() == [[y, x] for y in range(12, 18) for x in range(10, 30)]
    assert torch.equal(first_masks(RegionSet(40, 24, ())), torch.zeros(1, 24, 40))


def test_masks_take_what_is_said():
    regions = RegionSet(2000, 1000, (BOX,) * 4)
    with torch.profiler.profile(profile_memory=True) as profile:
        masks = first_masks(regions)
    taken = sum(max(0, event.self_cpu_memory_usage) for event in profile.key_averages())
    assert masks.nbytes <= taken <= 1.1 * mask_bytes(regions) and mask_bytes(regions) == masks.nbytes


def test_masks_that_do_not_fit_are_refused_before_they_are_made():
    huge = RegionSet(16384, 16384, (BOX,) * 4)
    with pytest.raises(
        RegionError, match=r"4 regions at 16384 x 16384 pixels: .* 4\.3 GB of memory, and 2\.0 GB are free"
    ):
        check_mask_size(huge, 2e9)
    assert check_mask_size(huge, 8e9) == "4 regions at 16384 x 16384 pixels: their masks take 4.3 GB of memory."
    assert not check_mask_size(RegionSet(1920, 1080, (BOX,) * 8), 8e9)
    with pytest.raises(RegionError, match=r"5\.4 GB"):
        check_mask_size(RegionSet(16384, 16384, (BOX, BOX, BOX, painted(1, 8, 8))), 5e9)
