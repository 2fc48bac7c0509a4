"""What 3D UNet backbones share (ModelScope text-to-video and its fine-tunes): sites, grids, noise, what learning keeps.

A UNet alternates attention within frames, where the text is read, with attention over time, and does both at several
resolutions. A token layer is one such pair; layers are counted as they run: down, middle, up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..concepts.concept import BaseFingerprint
from ..concepts.kinds import Part, Role
from ..errors import CCVDError
from .base import LinearSite
from .grid import Rows, TokenGrid
from .noise_path import EpsilonPath, VelocityPath


@dataclass(frozen=True)
class UNetLayer:
    """One token layer: a transformer within frames that reads the text, and the one over time that follows it.

    `depth` counts how often height and width have been halved.
    """

    name: str
    depth: int
    spatial: Any
    temporal: Any


@dataclass(frozen=True)
class SitePart:
    """One Linear of a transformer block: its name in concept files, and the module's path in the block."""

    name: str
    path: str
    role: Role
    part: Part
    rows: Rows | Literal["b text"]


STAGES = {"in": "transformer_in", "down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}
"""What the stages of a site's id are called in the model."""
ATTENTION_PATHS: Mapping[Part, str] = {"q": "q", "k": "k", "v": "v", "o": "out.0"}
SPATIAL_PARTS = (
    SitePart("cross_attn.q", "attn2.to_q", "subject", "q", "(b f) (h w)"),
    SitePart("cross_attn.k", "attn2.to_k", "subject", "k", "b text"),
    SitePart("cross_attn.v", "attn2.to_v", "subject", "v", "b text"),
    SitePart("cross_attn.o", "attn2.to_out.0", "subject", "o", "(b f) (h w)"),
)
TEMPORAL_PARTS = (
    *(
        SitePart(f"time.self_attn.{number}.{part}", f"attn{number + 1}.to_{path}", "motion", part, "(b h w) f")
        for number in range(2)
        for part, path in ATTENTION_PATHS.items()
    ),
    SitePart("time.ffn.0", "ff.net.0.proj", "motion", "ffn", "(b h w) f"),
    SitePart("time.ffn.2", "ff.net.2", "motion", "ffn", "(b h w) f"),
)


def is_unet3d(model: Any) -> bool:
    """Whether a module is built like diffusers' UNet3DConditionModel."""
    return all(hasattr(model, part) for part in ("down_blocks", "mid_block", "up_blocks", "transformer_in"))


def unet_layers(unet: Any) -> tuple[UNetLayer, ...]:
    """The token layers in the order in which they run."""
    return tuple(_layers(unet))


def _layers(unet: Any) -> Iterator[UNetLayer]:
    deepest = len(unet.down_blocks) - 1
    stages = [(f"down.{number}", number, block) for number, block in enumerate(unet.down_blocks)]
    stages.append(("mid", deepest, unet.mid_block))
    stages += [(f"up.{number}", deepest - number, block) for number, block in enumerate(unet.up_blocks)]
    for name, depth, block in stages:
        pairs = zip(getattr(block, "attentions", ()), getattr(block, "temp_attentions", ()), strict=True)
        for number, (spatial, temporal) in enumerate(pairs):
            yield UNetLayer(f"{name}.{number}", depth, only_block(spatial), only_block(temporal))


def only_block(transformer: Any) -> Any:
    """The one block that every transformer of a 3D UNet has."""
    (block,) = transformer.transformer_blocks
    return block


def unet_sites(unet: Any) -> tuple[LinearSite, ...]:
    """Every Linear that adapters may sit on. The transformer over time before the first layer counts to that layer."""
    layers = unet_layers(unet)
    sites = list(_sites("in", 0, only_block(unet.transformer_in), TEMPORAL_PARTS))
    for number, layer in enumerate(layers):
        sites += _sites(layer.name, number, layer.spatial, SPATIAL_PARTS)
        sites += _sites(layer.name, number, layer.temporal, TEMPORAL_PARTS)
    return tuple(sites)


def _sites(name: str, layer: int, block: nn.Module, parts: Sequence[SitePart]) -> Iterator[LinearSite]:
    for part in parts:
        module: Any = block.get_submodule(part.path)
        where = (f"{name}.{part.name}", layer, part.role, part.part, part.rows)
        yield LinearSite(*where, module, module.in_features, module.out_features, (unet_module(where[0]),))


def unet_module(site: str) -> str:
    """The module of a Linear: `mid.0.cross_attn.q` -> `mid_block.attentions.0.transformer_blocks.0.attn2.to_q`."""
    part = next(part for part in (*SPATIAL_PARTS, *TEMPORAL_PARTS) if site.endswith(f".{part.name}"))
    stage, *numbers = site.removesuffix(f".{part.name}").split(".")
    transformer = ".".join([STAGES[stage], *numbers[:-1]])
    if numbers:
        transformer += f".{'temp_attentions' if part in TEMPORAL_PARTS else 'attentions'}.{numbers[-1]}"
    return f"{transformer}.transformer_blocks.0.{part.path}"


def unet_grid(latent_shape: Sequence[int]) -> TokenGrid:
    """Token grid of latents [..., frames, height, width]: every latent is a token, every frame one of the clip's."""
    frames, height, width = latent_shape[-3:]
    return TokenGrid(frames, height, width, stride=1)


def halved(grid: TokenGrid, depth: int) -> TokenGrid:
    """The grid of layers in which height and width have been halved so often, each time up to whole tokens."""
    height, width, size = grid.height, grid.width, 2**depth
    for _ in range(depth):
        height, width = -(-height // 2), -(-width // 2)
    fill = (grid.fill[0] * grid.height / (height * size), grid.fill[1] * grid.width / (width * size))
    return replace(grid, height=height, width=width, fill=fill)


def unet_path(scheduler: Mapping[str, Any]) -> EpsilonPath:
    """The noise path of a diffusers scheduler's configuration. Raises CCVDError for one that is not known."""
    steps = int(scheduler.get("num_train_timesteps", 1000))
    first, last = float(scheduler.get("beta_start", 0.00085)), float(scheduler.get("beta_end", 0.012))
    schedule, prediction = scheduler.get("beta_schedule", "scaled_linear"), scheduler.get("prediction_type", "epsilon")
    betas = {
        "scaled_linear": lambda: torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2,
        "linear": lambda: torch.linspace(first, last, steps, dtype=torch.float64),
    }
    paths = {"epsilon": EpsilonPath, "v_prediction": VelocityPath}
    if schedule not in betas or prediction not in paths or scheduler.get("rescale_betas_zero_snr"):
        raise CCVDError(
            "The model's scheduler must add noise on a linear or scaled_linear schedule, without rescaling to zero "
            f"signal, and predict epsilon or v_prediction; got beta_schedule {schedule!r}, prediction_type "
            f"{prediction!r} and rescale_betas_zero_snr {scheduler.get('rescale_betas_zero_snr', False)!r}."
        )
    remaining = (1 - betas[schedule]()).cumprod(0)
    return paths[prediction](tuple(((1 - remaining) / remaining).sqrt().tolist()))


def unet_fingerprint(unet: Any, sites: Sequence[LinearSite]) -> BaseFingerprint:
    """Architecture by its sizes; signature from the first and last convolution, which quantised files keep as is."""
    widths = [block.resnets[0].out_channels for block in unet.down_blocks]
    text = next(site.in_features for site in sites if site.rows == "b text")
    layers = max(site.layer for site in sites) + 1
    architecture = f"unet3d-{layers}x{'-'.join(map(str, widths))}-text{text}-c{unet.conv_in.in_channels}"
    values = torch.cat([_values(unet.conv_in.weight), _values(unet.conv_out.weight)])
    picked = values[torch.linspace(0, len(values) - 1, 64).round().long()]
    return BaseFingerprint(architecture, tuple(round(float(value), 4) for value in picked))


def _values(weight: Tensor) -> Tensor:
    if weight.is_meta:
        return torch.zeros(weight.shape).flatten()
    return weight.detach().float().cpu().flatten()


UNITS = ("resnets", "temp_convs", "attentions", "temp_attentions")
"""The parts of a stage that run one after another, each recomputed by itself in the backward pass."""
UNIT_VALUES = 30
"""Values per token and channel of the largest unit, a transformer over time with adapters on all its Linears: two
attentions by a memory-lean kernel, three norms and a gated feed-forward (counted in tests/backbones/test_unet3d.py)."""


def unet_units(unet: Any) -> list[tuple[nn.Module, int]]:
    """Every unit with the depth at which it runs."""
    deepest = len(unet.down_blocks) - 1
    stages = [*enumerate(unet.down_blocks), (deepest, unet.mid_block)]
    stages += [(deepest - number, block) for number, block in enumerate(unet.up_blocks)]
    units = [(unit, depth) for depth, block in stages for name in UNITS for unit in getattr(block, name, ())]
    return [(unet.transformer_in, 0), *units]


def input_channels(unit: Any) -> int:
    return next(int(getattr(unit, name)) for name in ("in_channels", "in_dim") if hasattr(unit, name))


def inner_channels(unit: Any) -> int:
    """How wide a transformer's block is; 0 for convolutions, which keep far less."""
    return int(only_block(unit).attn1.to_q.in_features) if hasattr(unit, "transformer_blocks") else 0


def step_values(unet: Any, latent_shape: Sequence[int]) -> int:
    """Numbers kept for the backward pass of one clip: the input of every unit, and one unit's own activations."""
    grid = unet_grid(latent_shape)
    units = [(unit, halved(grid, depth).tokens) for unit, depth in unet_units(unet)]
    inputs = sum(tokens * input_channels(unit) for unit, tokens in units)
    widest = max(tokens * inner_channels(unit) for unit, tokens in units)
    return inputs + UNIT_VALUES * widest
