"""Boxes and painted pictures laid on a grid of tokens or pixels: the geometry of regions, at one moment."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Box = tuple[float, float, float, float]
"""x, y, width, height as fractions of the frame; x and y of the upper left corner."""
PixelBox = tuple[int, int, int, int]
"""x, y, width, height in whole pixels, inside the frame."""


def box_pixels(box: Box, width: int, height: int) -> PixelBox:
    """The pixels a box covers: at least one, none outside the frame."""
    x, y, across, down = box
    left = min(max(round(x * width), 0), width - 1)
    top = min(max(round(y * height), 0), height - 1)
    right = min(max(round((x + across) * width), left + 1), width)
    bottom = min(max(round((y + down) * height), top + 1), height)
    return left, top, right - left, bottom - top


def token_edges(tokens: int, fill: float) -> Float[Tensor, " edges"]:
    """Edges of a row of tokens as fractions of the picture; the last token may hold less of it than the others."""
    return (torch.arange(tokens + 1, dtype=torch.float64) / (tokens * fill)).clamp(max=1.0)


def box_coverage(
    box: Box, y: Float[Tensor, " rows"], x: Float[Tensor, " columns"], blend: float
) -> Float[Tensor, "height width"]:
    """A box on tokens between the edges `y` and `x`. A box too small for any centre gets the token nearest its own."""
    left, top, width, height = box
    right, bottom = left + width, top + height
    rows, columns = centres(y), centres(x)
    # Half-open, so that two boxes with a common edge never claim the same centre.
    hard = inside(rows, top, bottom)[:, None] & inside(columns, left, right)[None]
    coverage = hard.double()
    if blend:
        depth = torch.minimum(depth_inside(rows, top, bottom)[:, None], depth_inside(columns, left, right)[None])
        coverage = (0.5 + depth / (blend * min(width, height) / 2)).clamp(0, 1)
    if not bool(hard.any()) and left < 1 and top < 1 and right > 0 and bottom > 0:
        middle_y, middle_x = (max(top, 0) + min(bottom, 1)) / 2, (max(left, 0) + min(right, 1)) / 2
        coverage[(rows - middle_y).abs().argmin(), (columns - middle_x).abs().argmin()] = 1.0
    return coverage


def centres(edges: Float[Tensor, " edges"]) -> Float[Tensor, " tokens"]:
    return (edges[:-1] + edges[1:]) / 2


def inside(places: Float[Tensor, " tokens"], low: float, high: float) -> Tensor:
    return (places >= low) & (places < high)


def depth_inside(places: Float[Tensor, " tokens"], low: float, high: float) -> Float[Tensor, " tokens"]:
    """Distance to the nearer edge, negative outside. Edges on or beyond the picture's border are no edges."""
    far = torch.full_like(places, 2.0)
    return torch.minimum(places - low if low > 0 else far, high - places if high < 1 else far)


def paint_coverage(
    mask: Float[Tensor, "rows columns"], y: Float[Tensor, " edges_y"], x: Float[Tensor, " edges_x"], blend: float
) -> Float[Tensor, "height width"]:
    """A painted mask on tokens: a token is inside when at least half of it is painted.

    Strokes too thin for that get the token that holds most of them.
    """
    mask = mask.double().cpu()
    # Rounded, so that what is painted in full is full.
    share = (averaging(y, mask.shape[0]) @ mask @ averaging(x, mask.shape[1]).T).round(decimals=9)
    hard = share >= 0.5
    coverage = ((share - 0.5) / blend + 0.5).clamp(0, 1) if blend else hard.double()
    if not bool(hard.any()) and float(mask.max()) >= 0.5:
        coverage.view(-1)[share.argmax()] = 1.0
    return coverage


def averaging(edges: Float[Tensor, " edges"], pixels: int) -> Float[Tensor, "tokens pixels"]:
    """Rows that average a line of pixels over each token, by how much of each pixel lies in it."""
    lines = torch.arange(pixels + 1, dtype=torch.float64) / pixels
    overlap = torch.minimum(edges[1:, None], lines[None, 1:]) - torch.maximum(edges[:-1, None], lines[None, :-1])
    overlap = overlap.clamp_min(0)
    return overlap / overlap.sum(1, keepdim=True)
