"""FLOPs and peak memory of a learning step at Wan's sizes, counted on the meta device: no numbers, every shape.

The step is the pack's own (adapters and concept tokens attached by hooks, loss, backward). FLOPs are those of the
matrix products (torch's FlopCounterMode; recomputation counts). Memory is the peak of the bytes of all live tensor
storages that the step makes, followed op by op; the allocator's fragmentation and library workspaces come on top.
Attention is counted as the flash kernel's, which keeps its inputs, its output and one number per row.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from native import use_comfyui
from timing import Row
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from wan_shapes import WAN, WanSize

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import LowRank
from ccvd_core.learning.plan import GIB, learning_need
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.prompts.concept_tokens import PlacedTokens
from ccvd_core.regions.regional_prompt import predict_prompts

META = torch.device("meta")
SHALLOW = (2, 4)
RANK = 16
PICTURE = (480, 832)
FRAMES = 33
CLIP_LENGTHS = (1, 5, 9, 17, 25, 33, 49, 65, 81)
RESERVE = 1.5 * GIB
"""For the desktop, the GPU's own context and fragmentation."""
BYTES = {"bf16": 2, "fp8": 1}
STATE_BYTES = 12
"""Per learned value: fp32 weight and AdamW's two moments (its gradient is in the counted peak)."""


class LiveBytes(TorchDispatchMode):
    """Follows the storages that are made while it is active: bytes alive now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in storages((args, kwargs)):  # what no operation here has made, such as the weights
            self._follow(storage, 0)
        out = func(*args, **(kwargs or {}))
        for storage in storages(out):
            self._follow(storage, storage.nbytes())
        return out

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return

        def gone(_: object) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor) and leaf.device == META:
            yield leaf.untyped_storage()


def flash_attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    """`scaled_dot_product_attention` by the kernel that a GPU would choose, [batch, heads, tokens, width]."""
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]


@dataclass(frozen=True)
class StepCost:
    """One learning step of one clip."""

    flops: float
    peak_bytes: int


def latent_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Latents of a clip in pixels: 4 frames and 8 x 8 pixels each, the first frame alone."""
    return 16, (frames - 1) // 4 + 1, height // 8, width // 8


def new_adapters(backbone: Backbone, rank: int) -> dict[str, LowRank]:
    """Adapters of a subject as they are while learning: fp32, with gradients."""

    def empty(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(*shape, device=META))

    wanted = set(backbone.site_ids("subject"))
    return {
        site.id: LowRank(empty(rank, site.in_features), empty(site.out_features, rank))
        for site in backbone.sites
        if site.id in wanted
    }


def count_step(backbone: Backbone, shape: tuple[int, ...], rank: int = RANK, checkpointing: bool = True) -> StepCost:
    """FLOPs and peak bytes of one learning step on latents of this shape, batch 1. `backbone` is on meta."""
    adapters = new_adapters(backbone, rank)
    tokens = nn.Parameter(torch.empty(backbone.layers, 1, backbone.text_width, device=META))
    context = backbone.encode("").context
    # Weights and gates stay on the CPU: that a prompt is not plain is read from them.
    prompt = ConceptPrompt(
        context, (PlacedTokens("new", (1,), tokens),), torch.ones(backbone.layers, 1), torch.ones(len(context), 1)
    )
    noisy, target = (torch.empty(1, *shape, device=META) for _ in range(2))
    t = torch.empty(1, device=META)

    def step(mode: LiveBytes | FlopCounterMode) -> None:
        with (
            patch.object(F, "scaled_dot_product_attention", flash_attention),
            Attachment(backbone, [adapters]) as attachment,
            backbone.checkpointing() if checkpointing else nullcontext(),
            mode,
            attachment.activate([prompt], META),
        ):
            F.mse_loss(predict_prompts(backbone, noisy, t, [prompt]).float(), target).backward()

    live, flops = LiveBytes(), FlopCounterMode(display=False)
    step(live)
    # By itself: FlopCounterMode keeps tensors alive.
    step(flops)
    return StepCost(flops.get_total_flops(), live.peak)


def count_deep(
    build: Callable[[int], Backbone], layers: int, shape: tuple[int, ...], checkpointing: bool = True
) -> StepCost:
    """`count_step` of a model too deep to walk through: all blocks cost the same, so two shallow ones tell."""
    few, more = SHALLOW
    low, high = (count_step(build(n), shape, checkpointing=checkpointing) for n in SHALLOW)

    def at(low: float, high: float) -> float:
        return low + (high - low) * (layers - few) / (more - few)

    return StepCost(at(low.flops, high.flops), round(at(low.peak_bytes, high.peak_bytes)))


@contextmanager
def native_training() -> Iterator[None]:
    """ComfyUI's Wan as Learn Concept trains it on a GPU: rotary embedding with a gradient, torch's attention."""
    use_comfyui()
    import comfy.ldm.wan.model as wan
    import comfy.model_management as memory
    from comfy.ldm.modules.attention import attention_pytorch

    with patch.object(wan, "optimized_attention", attention_pytorch), patch.object(memory, "in_training", True):
        yield


def total_bytes(size: WanSize, frames: int, weights: str, peaks: Mapping[int, int]) -> float:
    """Bytes of everything on the card for a 480p clip; `peaks` of a picture and of FRAMES frames.

    The peak grows with the tokens, so two clips tell all others.
    """
    backbone = size.native()
    values = size.parameters()
    # The backward pass of a block needs its weights as they were used: of an fp8 file, in bf16.
    block = sum(site.in_features * site.out_features for site in backbone.sites if site.layer == 0)
    unpacked = block * BYTES["bf16"] if weights == "fp8" else 0
    learned = learning_need(backbone, "subject", RANK, latent_shape(1, *PICTURE), 1, 2).parameters
    peak = peaks[1] + (peaks[FRAMES] - peaks[1]) * (frames - 1) / (FRAMES - 1)
    return values * BYTES[weights] + unpacked + learned * STATE_BYTES + RESERVE + peak


def memory_rows() -> Iterator[Row]:
    """Counts at 480p x 33 frames, our estimate against them, and the longest clip that fits a card."""
    with native_training():
        for name, size in WAN.items():
            yield from counted_rows(name, size)
            yield from preset_rows(name, size)


def counted_rows(name: str, size: WanSize) -> Iterator[Row]:
    shape, what = latent_shape(FRAMES, *PICTURE), f"{name}_480p_{FRAMES}frames"
    need = learning_need(size.native(), "subject", RANK, shape, 1, 2)
    for form, build in (("native", size.native), ("diffusers", size.backbone)):
        kept = count_deep(build, size.layers, shape, checkpointing=False)
        lean = count_deep(build, size.layers, shape)
        yield f"flops_{what}_{form}", "TFLOP", lean.flops / 1e12
        yield f"flops_{what}_{form}", "everything_kept", lean.flops / kept.flops
        yield f"memory_{what}_{form}_kept", "GiB", kept.peak_bytes / GIB
        yield f"memory_{what}_{form}", "GiB", lean.peak_bytes / GIB
        yield f"memory_{what}_{form}", "everything_kept", lean.peak_bytes / kept.peak_bytes
        yield f"memory_{what}_{form}_estimate", "counted", need.activation_bytes / lean.peak_bytes


def preset_rows(name: str, size: WanSize) -> Iterator[Row]:
    """Longest 480p clip that fits, in frames; 0 if none does."""
    for how in ("checkpointing", "kept"):
        peaks = {
            n: count_deep(size.native, size.layers, latent_shape(n, *PICTURE), how == "checkpointing").peak_bytes
            for n in (1, FRAMES)
        }
        for card in (12, 24):
            for weights in BYTES:
                fits = [n for n in CLIP_LENGTHS if total_bytes(size, n, weights, peaks) <= card * GIB]
                yield f"preset_{card}gb_{name}_{weights}_{how}_480p_rank{RANK}", "frames", max(fits, default=0)
