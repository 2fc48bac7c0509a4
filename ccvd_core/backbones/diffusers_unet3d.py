"""A 3D UNet of diffusers, `UNet3DConditionModel`: headless, and inside ComfyUI, which has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..concepts.concept import BaseFingerprint
from ..errors import CCVDError
from .attention_processor import StandInProcessor
from .base import Backbone, EncodedText, EncodeWith, Removable, TextAttention, TextInput
from .grid import TokenGrid
from .unet3d import (
    halved,
    is_unet3d,
    step_values,
    unet_fingerprint,
    unet_grid,
    unet_layers,
    unet_path,
    unet_sites,
    unet_units,
)
from .unet3d_presets import PRESETS, VIDEO


class DiffusersUNet3DBackbone(Backbone):
    """A `UNet3DConditionModel`, the configuration of its scheduler, and a text encoder as a function, and as
    one that tokens can be added before (see `Backbone.encode_with`; `clip_text.py` has both for CLIP).

    Raises CCVDError for a model that is not a 3D UNet, or a scheduler that is not known.
    """

    def __init__(
        self,
        unet: nn.Module,
        encode_text: Callable[[str], EncodedText],
        scheduler: Mapping[str, Any] = MappingProxyType({}),
        dtype: torch.dtype | None = None,
        encode_with: EncodeWith | None = None,
    ) -> None:
        if not is_unet3d(unet):
            raise CCVDError(f"Expected a 3D UNet for text-to-video, as diffusers has it; got {type(unet).__name__}.")
        self._unet: Any = unet
        self._encode_text, self.encode_with = encode_text, encode_with
        self._layers = unet_layers(unet)
        self._path = unet_path(scheduler)
        self.noise_path = self._path
        self.dtype = dtype or next(unet.parameters()).dtype
        self.layers = len(self._layers)
        self.sites = unet_sites(unet)
        self.text_width = next(site.in_features for site in self.sites if site.rows == "b text")
        self.fingerprint: BaseFingerprint = unet_fingerprint(unet, self.sites)
        self.video, self.presets = VIDEO, PRESETS

    def encode(self, text: str) -> EncodedText:
        return self._encode_text(text)

    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        return unet_grid(latent_shape)

    def layer_grids(self, grid: TokenGrid) -> Sequence[TokenGrid]:
        return [halved(grid, layer.depth) for layer in self._layers]

    def step_values(self, latent_shape: Sequence[int]) -> int:
        return step_values(self._unet, latent_shape)

    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        level: Float[Tensor, " batch"],
        contexts: Float[Tensor, "batch rows width"],
        shown: Mapping[str, Any] = MappingProxyType({}),
    ) -> Float[Tensor, "batch channels frames height width"]:
        if shown:
            raise CCVDError("A 3D UNet is shown nothing beside the text; got " + ", ".join(sorted(shown)) + ".")
        scale = (1 + level.to(latents) ** 2).rsqrt().view(-1, 1, 1, 1, 1)
        step = self._path.step_at(level)
        return self._unet((latents * scale).to(self.dtype), step, contexts, return_dict=False)[0]

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        units = [unit for unit, _ in unet_units(self._unet)]
        own = [vars(unit).get("forward") for unit in units]
        for unit in units:
            unit.forward = partial(checkpoint, unit.forward, use_reentrant=False)
        try:
            yield
        finally:
            for unit, forward in zip(units, own, strict=True):
                del unit.forward
                if forward is not None:
                    unit.forward = forward

    def text_inputs(self) -> Sequence[TextInput]:
        return [
            TextInput(layer.spatial, "encoder_hidden_states", position=2, rows="(b f) (h w)", repeated=True)
            for layer in self._layers
        ]

    def hook_text_attention(self, attentions: Sequence[TextAttention]) -> Sequence[Removable]:
        pairs = zip(self._layers, attentions, strict=True)
        return [ClipProcessor(layer.spatial.attn2, attention) for layer, attention in pairs]

    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        return rows


class ClipProcessor(StandInProcessor):
    """Answers one text cross-attention while concepts act: the text comes once per clip then, its frames share it."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        clips = self._attention.clips
        if not clips or encoder_hidden_states is None:
            return self._processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **kwargs)

        def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            query, key, value = (rearrange(part, "b n (h d) -> b h n d", h=attn.heads) for part in (q, k, v))
            return rearrange(F.scaled_dot_product_attention(query, key, value), "b h n d -> b n (h d)")

        frames = len(hidden_states) // clips
        q, k, v = attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        if self._attention.acts:
            q = rearrange(q, "(b f) n d -> b (f n) d", f=frames)
            attended = rearrange(
                self._attention.attend(q, k, v, attn.heads, kernel), "b (f n) d -> (b f) n d", f=frames
            )
        else:
            attended = kernel(q, k.repeat_interleave(frames, 0), v.repeat_interleave(frames, 0))
        for part in attn.to_out:
            attended = part(attended)
        return attended
