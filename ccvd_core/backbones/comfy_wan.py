"""Wan as ComfyUI holds it: gets a loaded `diffusion_model`, never imports ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..concepts.concept import BaseFingerprint
from .base import EncodedText, Removable, TextAttention, TextInput
from .grid import TokenGrid
from .hosted import HostedBackbone, window_frames
from .noise_path import FlowPath
from .wan_families import wan_family
from .wan_references import added_tokens, reference_frames
from .wan_sites import wan_fingerprint, wan_grid, wan_sites, wan_step_values


class ComfyWanBackbone(HostedBackbone):
    """ComfyUI's native `WanModel` and a text encoder given as a function from text to `EncodedText`."""

    def __init__(
        self,
        diffusion_model: nn.Module,
        encode_text: Callable[[str], EncodedText],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._model: Any = diffusion_model
        self._encode_text = encode_text
        self.dtype = dtype
        self.noise_path = FlowPath()
        self._checkpointing = False
        self.layers = len(self._model.blocks)
        self.text_width = self._model.text_dim
        self.sites = wan_sites(diffusion_model, self.layers)
        self.fingerprint: BaseFingerprint = wan_fingerprint(
            self.sites, self.layers, self._model.in_dim, [block.modulation for block in self._model.blocks]
        )
        # Image-to-video and control models take more channels in than they make.
        family = wan_family(self._model.out_dim, self._model.dim)
        self.video, self.presets = family.video, family.presets

    def encode(self, text: str) -> EncodedText:
        return self._encode_text(text)

    def grid(self, latent_shape: Sequence[int]) -> TokenGrid:
        return wan_grid(latent_shape, self._model.patch_size)

    def predict(
        self,
        latents: Float[Tensor, "batch channels frames height width"],
        level: Float[Tensor, " batch"],
        contexts: Float[Tensor, "batch rows width"],
        shown: Mapping[str, Any] = MappingProxyType({}),
    ) -> Float[Tensor, "batch channels frames height width"]:
        further = dict(shown)
        behind = further.pop("c_concat", None)
        x = latents.to(self.dtype)
        x = x if behind is None else torch.cat([x, behind], 1)
        image = further.get("clip_fea")
        options = self._options(None if image is None else image.shape[-2])
        return self._model(x, level.float() * 1000, context=contexts, transformer_options=options, **further)

    @contextmanager
    def checkpointing(self) -> Iterator[None]:
        self._checkpointing = True
        try:
            yield
        finally:
            self._checkpointing = False

    def step_values(self, latent_shape: Sequence[int]) -> int:
        return wan_step_values(self.grid(latent_shape), self._model.dim, self.sites)

    def recomputed(self) -> Sequence[nn.Module]:
        return list(self._model.blocks)

    def text_inputs(self) -> Sequence[TextInput]:
        return [TextInput(block, "context") for block in self._model.blocks]

    def hook_text_attention(self, attentions: Sequence[TextAttention]) -> Sequence[Removable]:
        return [
            block.cross_attn.register_forward_pre_hook(_swap_attention(attention), with_kwargs=True)
            for block, attention in zip(self._model.blocks, attentions, strict=True)
        ]

    def reference_frames(self, conditions: Iterable[Mapping[str, Any]]) -> int:
        tensors = [
            {name: value.cond for name, value in condition.items() if isinstance(getattr(value, "cond", None), Tensor)}
            for condition in conditions
        ]
        return reference_frames(self._model, tensors)

    def call_grid(
        self,
        x: Tensor,
        options: Mapping[str, Any],
        time_dim_concat: Tensor | None,
        extras: Mapping[str, Any],
        references: int = 0,
    ) -> TokenGrid:
        grid = self.grid(x.shape)
        before, after = added_tokens(self._model, {**extras, "time_dim_concat": time_dim_concat})
        window = window_frames(options)
        if window is None and not references:
            return replace(grid, before=before, after=after)
        numbers, total = window or (range(grid.frames), grid.frames)
        places = tuple(number - references for number in numbers)
        return replace(grid, before=before, after=after, numbers=places, clip_length=total - references)

    def project_text(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n hidden"]:
        return self._model.text_embedding(rows)

    def _options(self, image_rows: int | None) -> dict[str, Any]:
        """`image_rows`: rows of a picture that stand before the text rows."""
        if not self._checkpointing:
            return {}
        blocks = enumerate(self._model.blocks)
        replace = {("double_block", layer): _recomputed(block, image_rows) for layer, block in blocks}
        return {"patches_replace": {"dit": replace}}


def _swap_attention(attention: TextAttention) -> Any:
    """A pre-hook for cross-attentions: puts `attention` around the kernel, as an override of ComfyUI's own kind.

    An override that is there already (another pack's) stays around the kernel. Image-to-video models ask for the
    attention to their image rows first, which is none of the regions'.
    """

    def swap(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if not attention.acts:
            return None
        options = kwargs.get("transformer_options") or {}
        earlier = options.get("optimized_attention_override")
        image_calls = [hasattr(module, "k_img")]

        def override(func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *rest: Any, **extra: Any) -> Tensor:
            # With its own options, so that what it calls does not come back here.
            extra["transformer_options"] = options

            def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                if earlier is not None:
                    return earlier(func, q, k, v, heads, *rest, **extra)
                return func(q, k, v, heads, *rest, **extra)

            if image_calls.pop() if image_calls else False:
                return kernel(q, k[: len(q)], v[: len(q)])
            return attention.attend(q, k, v, heads, kernel)

        return args, {**kwargs, "transformer_options": {**options, "optimized_attention_override": override}}

    return swap


def _recomputed(
    block: nn.Module, image_rows: int | None
) -> Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]:
    """A block replacement that keeps only the block's input for the backward pass.

    It calls `block` itself: ComfyUI's `original_block` closes over a loop variable, which is the last block by the time
    of the backward pass.
    """

    def replacement(args: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
        def run(tokens: Tensor) -> Tensor:
            return block(
                tokens,
                context=args["txt"],
                e=args["vec"],
                freqs=args["pe"],
                context_img_len=image_rows,
                transformer_options=args["transformer_options"],
            )

        return {"img": checkpoint(run, args["img"], use_reentrant=False)}

    return replacement
