"""What the Wan backbones share: where adapters sit, and how a base model is recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..concepts.concept import BaseFingerprint
from ..concepts.kinds import Part, Role
from .base import LinearSite
from .grid import Rows, TokenGrid
from .wan_families import FRAME_STEP


@dataclass(frozen=True)
class SitePart:
    """One Linear of a block, under its name in Wan's own files."""

    name: str
    role: Role
    part: Part
    rows: Rows | Literal["b text"]


DIFFUSERS_NAMES = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""Of a block's Linears, by their names in Wan's own files."""
SITE_PARTS = (
    SitePart("self_attn.q", "motion", "q", "b (f h w)"),
    SitePart("self_attn.k", "motion", "k", "b (f h w)"),
    SitePart("self_attn.v", "motion", "v", "b (f h w)"),
    SitePart("self_attn.o", "motion", "o", "b (f h w)"),
    SitePart("cross_attn.q", "subject", "q", "b (f h w)"),
    SitePart("cross_attn.k", "subject", "k", "b text"),
    SitePart("cross_attn.v", "subject", "v", "b text"),
    SitePart("cross_attn.o", "subject", "o", "b (f h w)"),
    SitePart("ffn.0", "motion", "ffn", "b (f h w)"),
    SitePart("ffn.2", "motion", "ffn", "b (f h w)"),
)


def diffusers_name(site: str) -> str:
    """What diffusers calls a Linear of a Wan model: `blocks.3.cross_attn.k` -> `blocks.3.attn2.to_k`."""
    block, _, part = site.partition(".")[2].partition(".")
    return f"blocks.{block}.{DIFFUSERS_NAMES[part]}" if part in DIFFUSERS_NAMES else site


def wan_sites(model: nn.Module, layers: int, names: Mapping[str, str] | None = None) -> tuple[LinearSite, ...]:
    """Every Linear that adapters may sit on; `names` maps Wan's names to the model's own, where they differ."""
    sites = []
    for layer in range(layers):
        for part in SITE_PARTS:
            own_name = names[part.name] if names else part.name
            module: Any = model.get_submodule(f"blocks.{layer}.{own_name}")
            where = (f"blocks.{layer}.{part.name}", layer, part.role, part.part, part.rows)
            names_in_files = (where[0], diffusers_name(where[0]))
            sites.append(LinearSite(*where, module, module.in_features, module.out_features, names_in_files))
    return tuple(sites)


def wan_grid(latent_shape: Sequence[int], patch_size: Sequence[int]) -> TokenGrid:
    """Token grid of latents [..., frames, height, width], padded to whole patches."""
    sizes = list(zip(latent_shape[-3:], patch_size, strict=True))
    frames, height, width = (-(-size // patch) for size, patch in sizes)
    (_, (latent_height, patch_height), (latent_width, patch_width)) = sizes
    fill = (latent_height / (height * patch_height), latent_width / (width * patch_width))
    return TokenGrid(frames, height, width, fill, FRAME_STEP)


def wan_step_values(grid: TokenGrid, width: int, sites: Sequence[LinearSite]) -> int:
    """Values kept in a learning step that recomputes each block in the backward pass, attention by a lean kernel.

    The input of every block, and one block's activations at a time. 24 values per token and channel and 2.6 per channel
    of the feed-forward are fitted to peaks counted op by op (benchmarks/cost): within 10 % for 1.3B and 14B, in ComfyUI
    and in diffusers.
    """
    widened = next(site for site in sites if site.id.endswith("ffn.0")).out_features
    layers = sum(site.id.endswith("ffn.0") for site in sites)
    return round(grid.tokens * (width * (layers + 24) + 2.6 * widened))


def wan_fingerprint(
    sites: Sequence[LinearSite], layers: int, channels: int, modulations: Sequence[Tensor]
) -> BaseFingerprint:
    """Architecture by its sizes; signature from the blocks' modulation tables.

    Those tables are small and stay in high precision when the rest of a file is quantised, so a bf16 and an fp8 file of
    one model have the same signature.
    """
    query = next(site for site in sites if site.id.endswith("cross_attn.q"))
    widen = next(site for site in sites if site.id.endswith("ffn.0"))
    architecture = f"wan-{layers}x{query.out_features}-ffn{widen.out_features}-c{channels}"
    chosen = [modulations[round(share * (layers - 1))] for share in (0.0, 0.33, 0.67, 1.0)]
    values = torch.cat([table.detach().float().cpu().flatten() for table in chosen])
    picked = values[torch.linspace(0, len(values) - 1, 64).round().long()]
    return BaseFingerprint(architecture, tuple(round(float(value), 4) for value in picked))
