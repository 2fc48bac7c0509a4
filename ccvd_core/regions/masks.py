"""Which video token belongs to which region: drawn boxes and painted masks on a token grid (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.grid import TokenGrid
from .layout import Box, Region
from .region import PaintedRegion, RegionSet


def region_masks(regions: RegionSet, grid: TokenGrid, blend: float = 0.0) -> Float[Tensor, "prompts tokens"]:
    """How much each prompt counts at each token, summing to 1 per token; row 0 is the whole frame's prompt.

    At `blend` 0 a token belongs to the frontmost region that holds its centre, or to row 0. Above 0, edges are that
    soft (1: from the edge to the middle of the region) and overlapping regions mix (1: in equal parts). The tokens
    before and after the grid belong to row 0.
    """
    if not regions.regions:
        inside = torch.ones(1, grid.tokens)
    else:
        coverage = torch.stack([region_coverage(region, grid, blend).flatten() for region in regions.regions])
        inside = compose(coverage, blend)
    return around(inside.float(), grid)


def latent_masks(
    regions: RegionSet, latent_shape: Sequence[int], grid: TokenGrid, blend: float = 0.0
) -> Float[Tensor, "prompts frames height width"]:
    """`region_masks` at the size of latents [..., frames, height, width], whose token grid is `grid`.

    Each latent has its own centre, so that edges are as fine as the latents. A model whose tokens span several latent
    frames would need more here: Wan's span one.
    """
    frames, height, width = latent_shape[-3:]
    finer = replace(grid, frames=frames, height=height, width=width, fill=(1.0, 1.0), before=0, after=0)
    return region_masks(regions, finer, blend).unflatten(1, (frames, height, width))


def own_view(mask: Float[Tensor, "*regions frames height width"], grid: TokenGrid) -> Tensor:
    """What of the latents a region's own prediction sees: `mask`, and all of frames that show no part of the clip."""
    if grid.numbers is None:
        return mask
    outside = torch.tensor([number < 0 for number in grid.numbers], device=mask.device).view(-1, 1, 1)
    return mask.masked_fill(outside, 1)


def region_coverage(
    region: Region | PaintedRegion, grid: TokenGrid, blend: float
) -> Float[Tensor, "frames height width"]:
    """How much of each token a region claims, whatever lies in front of it: 0 or 1 at `blend` 0."""
    y, x = token_edges(grid.height, grid.fill[0]), token_edges(grid.width, grid.fill[1])
    places: list[Any] = [None if t is None else shape_at(region, t) for t in frame_times(grid)]
    # A shape that stays is laid out once.
    laid = {None: torch.zeros(grid.height, grid.width)}
    for place in set(places) - {None}:
        if isinstance(region, Region):
            laid[place] = box_coverage(place, y, x, blend).float()
        else:
            laid[place] = paint_coverage(region.mask[place], y, x, blend).float()
    return torch.stack([laid[place] for place in places])


def shape_at(region: Region | PaintedRegion, t: float) -> Any:
    """Where a region is at a time: its box, or the number of its painted frame."""
    return region.box_at(t) if isinstance(region, Region) else round(t * (len(region.mask) - 1))


def frame_times(grid: TokenGrid) -> list[float | None]:
    """Time in 0..1 of each token frame: the mean time of the clip's frames that it covers; None: it shows none.

    Token frame 0 is the clip's first frame, token frame j the frames s (j - 1) + 1 .. s j with s = `grid.stride`.
    """
    numbers = range(grid.frames) if grid.numbers is None else grid.numbers
    last = grid.stride * ((grid.clip_length or grid.frames) - 1)
    means = [
        None if number < 0 else 0.0 if number == 0 else grid.stride * number - (grid.stride - 1) / 2
        for number in numbers
    ]
    return [None if mean is None else mean / last if last else 0.0 for mean in means]


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


def compose(coverage: Float[Tensor, "regions tokens"], blend: float) -> Float[Tensor, "prompts tokens"]:
    """Stack regions, the last in front: m_k ~ s_k prod_{j>k} (1 - (1 - blend) s_j), m_0 ~ prod_k (1 - s_k)."""
    visible = torch.ones_like(coverage[0])
    shares = []
    for claimed in coverage.flip(0):
        shares.append(claimed * visible)
        visible = visible * (1 - (1 - blend) * claimed)
    masks = torch.stack([(1 - coverage).prod(0), *reversed(shares)])
    return masks / masks.sum(0, keepdim=True)


def around(masks: Float[Tensor, "prompts tokens"], grid: TokenGrid) -> Float[Tensor, "prompts all_tokens"]:
    """Add the tokens before and after the grid, which belong to row 0."""
    extra = [torch.zeros(len(masks), count) for count in (grid.before, grid.after)]
    for part in extra:
        part[0] = 1.0
    return torch.cat([extra[0], masks, extra[1]], 1)
