"""Wan 2.1/2.2 in diffusers: headless use, tests, benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..concept import BaseFingerprint
from .base import Backbone, ConceptPrompt, EncodedText, TokenGrid, flow_matching_pair
from .wan_sites import wan_fingerprint, wan_grid, wan_sites

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


class DiffusersWanBackbone(Backbone):
    """A `WanTransformer3DModel` and a text encoder given as a function from text to `EncodedText`."""

    def __init__(self, transformer: nn.Module, encode_text: Callable[[str], EncodedText]) -> None:
        self._transformer = transformer
        self._encode_text = encode_text
        self.dtype: torch.dtype = transformer.dtype  # type: ignore[assignment]
        self.layers = len(transformer.blocks)  # type: ignore[arg-type]
        self.text_width = transformer.config.text_dim  # type: ignore[union-attr]
        self.sites = wan_sites(transformer, self.layers, DIFFUSERS_NAMES)
        config = transformer.config
        self.fingerprint: BaseFingerprint = wan_fingerprint(
            self.sites,
            self.layers,
            config.in_channels,  # type: ignore[union-attr]
            [block.scale_shift_table for block in self.blocks()],  # type: ignore[misc]
        )

    def encode(self, text: str) -> EncodedText:
        return self._encode_text(text)

    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        return wan_grid(latent_shape, self._transformer.config.patch_size)  # type: ignore[union-attr]

    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        t: Float[Tensor, " batch"],
        prompts: Sequence[ConceptPrompt],
    ) -> Float[Tensor, "batch channels frames height width"]:
        context = torch.stack([prompt.context for prompt in prompts]).to(latents.device, self.dtype)
        return self._transformer(latents.to(self.dtype), t.float() * 1000, context, return_dict=False)[0]

    def training_target(self, clean: Tensor, noise: Tensor, t: Float[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        return flow_matching_pair(clean, noise, t)

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        self._transformer.enable_gradient_checkpointing()  # type: ignore[operator]
        try:
            yield
        finally:
            self._transformer.disable_gradient_checkpointing()  # type: ignore[operator]

    def blocks(self) -> Sequence[nn.Module]:
        return list(self._transformer.blocks)  # type: ignore[arg-type]

    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        return self._transformer.condition_embedder.text_embedder(rows)  # type: ignore[union-attr]
