"""Wan 2.1/2.2 in diffusers: headless use, tests, benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from jaxtyping import Float
from torch import Tensor, nn

from ..concepts.concept import BaseFingerprint
from ..errors import CCVDError
from .attention_processor import StandInProcessor
from .base import Backbone, EncodedText, EncodeWith, Removable, TextAttention, TextInput
from .grid import TokenGrid
from .noise_path import FlowPath
from .wan_families import wan_family
from .wan_sites import DIFFUSERS_NAMES, wan_fingerprint, wan_grid, wan_sites, wan_step_values


class DiffusersWanBackbone(Backbone):
    """A `WanTransformer3DModel` and a text encoder given as a function from text to `EncodedText`.

    `encode_with` comes with a text encoder that is small enough to learn through (see `Backbone`).
    """

    def __init__(
        self,
        transformer: nn.Module,
        encode_text: Callable[[str], EncodedText],
        encode_with: EncodeWith | None = None,
    ) -> None:
        self._transformer = transformer
        self._encode_text, self.encode_with = encode_text, encode_with
        self.noise_path = FlowPath()
        self.dtype: torch.dtype = transformer.dtype  # type: ignore[assignment]
        self.layers = len(transformer.blocks)  # type: ignore[arg-type]
        self.text_width = transformer.config.text_dim  # type: ignore[union-attr]
        self.sites = wan_sites(transformer, self.layers, DIFFUSERS_NAMES)
        config = transformer.config
        self.fingerprint: BaseFingerprint = wan_fingerprint(
            self.sites,
            self.layers,
            config.in_channels,  # type: ignore[union-attr]
            [block.scale_shift_table for block in self._blocks()],
        )
        self._width: int = config.num_attention_heads * config.attention_head_dim  # type: ignore[union-attr]
        family = wan_family(config.out_channels, self._width)  # type: ignore[union-attr]
        self.video, self.presets = family.video, family.presets

    def encode(self, text: str) -> EncodedText:
        return self._encode_text(text)

    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        return wan_grid(latent_shape, self._transformer.config.patch_size)  # type: ignore[union-attr]

    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        level: Float[Tensor, " batch"],
        contexts: Float[Tensor, "batch rows width"],
        shown: Mapping[str, Any] = MappingProxyType({}),
    ) -> Float[Tensor, "batch channels frames height width"]:
        if shown:
            raise CCVDError("Models that are shown a start image or control run in ComfyUI only; got one in diffusers.")
        return self._transformer(latents.to(self.dtype), level.float() * 1000, contexts, return_dict=False)[0]

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        self._transformer.enable_gradient_checkpointing()  # type: ignore[operator]
        try:
            yield
        finally:
            self._transformer.disable_gradient_checkpointing()  # type: ignore[operator]

    def step_values(self, latent_shape: Sequence[int]) -> int:
        return wan_step_values(self.grid(latent_shape), self._width, self.sites)

    def text_inputs(self) -> Sequence[TextInput]:
        return [TextInput(block, "encoder_hidden_states") for block in self._blocks()]

    def hook_text_attention(self, attentions: Sequence[TextAttention]) -> Sequence[Removable]:
        pairs = zip(self._blocks(), attentions, strict=True)
        return [RegionalProcessor(block.attn2, attention) for block, attention in pairs]

    def _blocks(self) -> Sequence[Any]:
        return list(self._transformer.blocks)  # type: ignore[arg-type]

    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        return self._transformer.condition_embedder.text_embedder(rows)  # type: ignore[union-attr]


class RegionalProcessor(StandInProcessor):
    """Answers one cross-attention while regions act."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        if not self._attention.acts or encoder_hidden_states is None:
            return self._processor(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        if attn.add_k_proj is not None:
            raise CCVDError(
                "Regions work on text-to-video models in diffusers; this one reads a picture too (image-to-video). Use "
                "a text-to-video model, or the nodes in ComfyUI."
            )

        def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            query, key, value = (part.unflatten(2, (attn.heads, -1)) for part in (q, k, v))
            backend = getattr(self._processor, "_attention_backend", None)
            return dispatch_attention_fn(query, key, value, backend=backend).flatten(2, 3).type_as(q)

        q, k = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(encoder_hidden_states))
        attended = self._attention.attend(q, k, attn.to_v(encoder_hidden_states), attn.heads, kernel)
        for part in attn.to_out:
            attended = part(attended)
        return attended
