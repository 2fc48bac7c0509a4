"""Which video token belongs to which region: drawn boxes and painted masks on a token grid (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.grid import TokenGrid
from .geometry import token_edges
from .region import RegionSet, Shape


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

    Each latent has its own centre and time, so that edges are as fine as the latents.
    """
    finer = latent_grid(latent_shape, grid)
    return region_masks(regions, finer, blend).unflatten(1, (finer.frames, finer.height, finer.width))


def latent_grid(latent_shape: Sequence[int], grid: TokenGrid) -> TokenGrid:
    """The grid of the latents themselves, whose token grid is `grid`: one token for each."""
    frames, height, width = latent_shape[-3:]
    numbers, length = grid.numbers, grid.clip_length
    if numbers is not None:
        spread = [n if n < 0 else n * grid.span + k for n in numbers for k in range(grid.span)]
        numbers = tuple(spread[:frames])
    return TokenGrid(
        frames,
        height,
        width,
        stride=grid.stride,
        numbers=numbers,
        clip_length=None if length is None else length * grid.span,
    )


def own_view(mask: Float[Tensor, "*regions frames height width"], grid: TokenGrid) -> Tensor:
    """What of latents a region's own prediction sees: `mask`, and all of frames that show no part of the clip.

    `grid` is the latents' (see `latent_grid`).
    """
    if grid.numbers is None:
        return mask
    outside = torch.tensor([number < 0 for number in grid.numbers], device=mask.device).view(-1, 1, 1)
    return mask.masked_fill(outside, 1)


def region_coverage(region: Shape, grid: TokenGrid, blend: float) -> Float[Tensor, "frames height width"]:
    """How much of each token a region claims, whatever lies in front of it: 0 or 1 at `blend` 0."""
    y, x = token_edges(grid.height, grid.fill[0]), token_edges(grid.width, grid.fill[1])
    nothing, laid, parts = torch.zeros(grid.height, grid.width), {}, []
    for t in frame_times(grid):
        if t is None:
            parts.append(nothing)
            continue
        # A shape that stays is laid out once.
        place = region.place_at(t)
        if place not in laid:
            laid[place] = region.coverage(t, y, x, blend).float()
        parts.append(laid[place])
    return torch.stack(parts)


def frame_times(grid: TokenGrid) -> list[float | None]:
    """Time in 0..1 of each token frame: the mean time of the clip's frames that it covers; None: it shows none.

    Latent frame 0 is the clip's first frame, latent frame j the frames s (j - 1) + 1 .. s j with s = `grid.stride`.
    """
    numbers = range(grid.frames) if grid.numbers is None else grid.numbers
    last = grid.stride * ((grid.clip_length or grid.frames) * grid.span - 1)
    times: list[float | None] = []
    for number in numbers:
        first_latent = number * grid.span
        first = max(0, grid.stride * (first_latent - 1) + 1)
        mean = (first + grid.stride * (first_latent + grid.span - 1)) / 2
        times.append(None if number < 0 else mean / last if last else 0.0)
    return times


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
