"""Scaling against the area means worked out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ccvd_core.scaling import PLAIN, resized


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def overlaps(before: int, after: int) -> Tensor:
    """[after, before]: which share of each new pixel lies over each old one."""
    step = before / after
    shares = torch.zeros(after, before, dtype=torch.float64)
    for new in range(after):
        for old in range(before):
            shares[new, old] = max(0.0, min((new + 1) * step, old + 1) - max(new * step, old)) / step
    return shares


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (11, 3), (1, 1), (12, 17)])
def test_smaller_is_the_mean_of_the_area_that_a_pixel_covers(size: tuple[int, int]) -> None:
    picture = noise(12, 18, 3)
    down, across = overlaps(12, size[0]), overlaps(18, size[1])
    expected = torch.einsum("ay,bx,yxc->abc", down, across, picture.double()).float()
    torch.testing.assert_close(resized(picture, size), expected, atol=1e-5, rtol=1e-5)


def test_a_side_may_shrink_while_the_other_grows() -> None:
    picture = noise(12, 4, 3)
    shrunk = resized(picture, (3, 4))
    torch.testing.assert_close(resized(picture, (3, 9)), resized(shrunk, (3, 9)))


def test_an_edge_does_not_overshoot() -> None:
    edge = torch.zeros(30, 30, 1)
    edge[:, 13:] = 1.0
    small = resized(edge, (7, 7))
    assert small.shape == (7, 7, 1)
    # Bicubic filters, which were used before, leave 0..1 here by several percent.
    assert small.min() == 0.0 and small.max() == 1.0


def test_masks_and_number_types() -> None:
    mask = (noise(9, 9) > 0.5).to(torch.float16)
    large = resized(mask, (20, 31), PLAIN)
    assert large.shape == (20, 31) and large.dtype == torch.float32
    assert 0 <= large.min() <= large.max() <= 1
    turned = noise(3, 10, 8).permute(1, 2, 0)
    torch.testing.assert_close(resized(turned, (5, 4)), resized(turned.contiguous(), (5, 4)))


def test_a_picture_of_the_right_size_is_the_same() -> None:
    picture = noise(8, 8, 3)
    assert resized(picture, (8, 8)) is picture
