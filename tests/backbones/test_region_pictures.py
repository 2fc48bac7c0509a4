"""The pictures of Region Mask: outlines follow what is painted, backgrounds are scaled without false patterns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.regions.region import PaintedRegion, RegionSet
from tests.backbones.pack import from_pack

pytestmark = pytest.mark.usefixtures("backbones")
"""Which puts ComfyUI on the path."""


def outline(mask: torch.Tensor, line: int = 2) -> np.ndarray:
    return from_pack("nodes.host.region_pictures").outline(mask, line)


def test_a_boxs_outline_is_a_frame_inside_it() -> None:
    mask = torch.zeros(20, 30)
    mask[4:16, 6:26] = 1
    expected = mask.clone()
    expected[6:14, 8:24] = 0
    assert np.array_equal(outline(mask), expected.numpy() * 255)


def test_a_painted_shape_is_outlined_as_it_is_and_so_are_its_holes() -> None:
    """All of the edge is outlined, nothing outside it, and little more."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    distance = ((x - 40) ** 2 + (y - 30) ** 2).sqrt()
    ring = ((distance < 25) & (distance > 9)).float()
    drawn = outline(ring, 1) > 0
    inside = ring.numpy() > 0.5
    padded = np.pad(inside, 1)
    neighbours = [padded[1 + dy : 61 + dy, 1 + dx : 81 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    edge = inside & ~np.logical_and.reduce(neighbours)
    assert (drawn >= edge).all() and not (drawn & ~inside).any()
    assert drawn.sum() < 1.5 * edge.sum()
    assert not drawn[30, 40 - 16] and not drawn[6, 16], "neither its middle nor a corner of its bounding box"


def test_the_preview_of_a_painted_region_has_no_box_around_it(backbones: dict[str, Backbone]) -> None:
    y, x = torch.meshgrid(torch.arange(100.0), torch.arange(100.0), indexing="ij")
    disc = (((x - 50) ** 2 + (y - 50) ** 2) < 40**2).float()
    regions = RegionSet(100, 100, (PaintedRegion("", "", 1.0, disc[None]),))
    picture = from_pack("nodes.host.region_pictures").preview(regions, torch.zeros(1, 100, 100, 3))
    assert not picture[0, 11, 11].any(), "the corner of its bounding box"
    assert picture[0, 50, 11].any() and picture[0, 50, 50].any()


def test_nothing_inside_has_no_outline() -> None:
    assert not outline(torch.full((8, 8), 0.4)).any()


@pytest.mark.parametrize("size", [640, 500])
def test_a_fine_pattern_in_the_background_becomes_grey(size: int) -> None:
    """Stripes of one pixel, seen from afar."""
    stripes = (torch.arange(2 * size) % 2).float().expand(2 * size, -1)
    background = stripes[None, :, :, None].expand(3, -1, -1, 3)
    still = from_pack("nodes.host.region_pictures").frame_at(background, 0.0, (size, size))
    assert np.abs(np.asarray(still).astype(int) - 128).max() <= 2
