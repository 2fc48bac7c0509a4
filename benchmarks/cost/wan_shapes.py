"""Wan's published sizes without weights, and concepts of full size that nobody learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import nn

from ccvd_core.backbones.base import Backbone, EncodedText
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.concepts.concept import Concept, LowRank

TEXT_ROWS, TEXT_WIDTH, HEAD_WIDTH = 512, 4096, 128


def no_text(text: str) -> EncodedText:
    """Context rows without numbers."""
    return EncodedText(torch.empty(TEXT_ROWS, TEXT_WIDTH, device="meta"), tuple(f" {word}" for word in text.split()))


def random_text(text: str) -> EncodedText:
    """Random context rows, at once."""
    rows = torch.zeros(TEXT_ROWS, TEXT_WIDTH)
    rows[:8] = torch.randn(8, TEXT_WIDTH, generator=torch.Generator().manual_seed(0))
    return EncodedText(rows, no_text(text).pieces)


@dataclass(frozen=True)
class WanSize:
    """A Wan 2.1 text-to-video model by its numbers."""

    layers: int
    heads: int
    ffn: int

    @property
    def hidden(self) -> int:
        return self.heads * HEAD_WIDTH

    def backbone(
        self,
        layers: int | None = None,
        dtype: torch.dtype = torch.bfloat16,
        device: str = "meta",
        encode: Callable[[str], EncodedText] = no_text,
    ) -> DiffusersWanBackbone:
        """The model on the meta device, shapes and no numbers, or with random weights on another one."""
        model = self._transformer(layers or self.layers, device)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        with self._recognisable(model, "scale_shift_table", dtype):
            backbone = DiffusersWanBackbone(model, encode)
        model.requires_grad_(False).eval()
        return backbone

    @contextmanager
    def _recognisable(self, model: Any, table: str, dtype: torch.dtype) -> Iterator[None]:
        """Numbers in the table of every block by which a base is recognised, for a moment."""
        kept = [getattr(block, table) for block in model.blocks]
        for block in model.blocks:
            setattr(block, table, nn.Parameter(torch.ones(1, 6, self.hidden, dtype=dtype)))
        yield
        for block, shapes in zip(model.blocks, kept, strict=True):
            setattr(block, table, shapes)

    def _transformer(self, layers: int, device: str) -> WanTransformer3DModel:
        with torch.device(device):
            return WanTransformer3DModel(
                num_layers=layers,
                num_attention_heads=self.heads,
                attention_head_dim=HEAD_WIDTH,
                ffn_dim=self.ffn,
                text_dim=TEXT_WIDTH,
            )

    def parameters(self) -> int:
        """Weights of the whole model."""
        return sum(parameter.numel() for parameter in self._transformer(self.layers, "meta").parameters())

    def native(self, layers: int | None = None, dtype: torch.dtype = torch.bfloat16) -> ComfyWanBackbone:
        """The same in ComfyUI's own classes, which must be on the path."""
        import comfy.ops
        from comfy.ldm.wan.model import WanModel

        model = WanModel(
            dim=self.hidden,
            ffn_dim=self.ffn,
            text_dim=TEXT_WIDTH,
            num_heads=self.heads,
            num_layers=layers or self.layers,
            operations=comfy.ops.disable_weight_init,
            device="meta",
            dtype=dtype,
        )
        with self._recognisable(model, "modulation", dtype):
            backbone = ComfyWanBackbone(model, no_text, dtype)
        model.requires_grad_(False).eval()
        return backbone


WAN = {"wan13b": WanSize(30, 12, 8960), "wan14b": WanSize(40, 40, 13824)}


def random_concept(backbone: Backbone, name: str, seed: int, rank: int, order: int = 0) -> Concept:
    """A subject with one text row whose cost, in bytes and seconds, is that of a learned one."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.01

    wanted = set(backbone.site_ids("subject"))
    adapters = {
        site.id: LowRank(noise(rank, site.in_features), noise(site.out_features, rank))
        for site in backbone.sites
        if site.id in wanted
    }
    keys = noise(backbone.layers, backbone.text_width)
    tokens = noise(backbone.layers, 1, backbone.text_width)
    return Concept(name, "subject", "dog", adapters, tokens, keys, -keys, backbone.fingerprint, order)
