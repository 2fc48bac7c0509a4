"""MODEL -> backbone, by what the model is: one row for each family that the pack can work with.

No other module of the nodes names a model, but for texts that artists read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import comfy.sd
import comfy.text_encoders.wan
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...ccvd_core.backbones.base import EncodedText, EncodeWith
from ...ccvd_core.backbones.comfy_unet3d import ComfyUNet3DBackbone, UNet3DConditions
from ...ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ...ccvd_core.backbones.comfy_wan_conditions import WanConditions
from ...ccvd_core.backbones.hosted import HostedBackbone, LessonConditions
from ...ccvd_core.backbones.text_pieces import bpe_pieces, sentencepiece_pieces
from ...ccvd_core.errors import CCVDError, shorten
from .text_encoder import TextEncoder

EncodeText = Callable[[str], EncodedText]


@dataclass(frozen=True)
class ModelFamily:
    """Models of one architecture, told by parts that only they have together, and what works with them here."""

    title: str
    """What to load, in the words of ComfyUI's nodes."""
    parts: tuple[str, ...]
    """Modules or parameters of the diffusion model, by their dotted names."""
    backbone: Callable[[nn.Module, EncodeText, torch.dtype], HostedBackbone]
    conditions: Callable[[Any, Any, Any], LessonConditions]
    """Of ComfyUI's BaseModel, a VAE and a CLIP Vision or None."""
    encoder: TextEncoder
    """What its prompts are read with."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError(f"{self.title} has no parts to tell it by: every model would be taken for it.")

    def has(self, diffusion_model: nn.Module) -> bool:
        return all(has_part(diffusion_model, part) for part in self.parts)


UMT5 = TextEncoder(
    "Wan's text encoder (UMT5)",
    "Load CLIP with type 'wan', or CCVD Demo Model's CLIP",
    "clip_umt5xxl",
    "umt5xxl",
    "</s>",
    lambda tokenizer: tokenizer.tokenizer.tokenizer.id_to_piece,
    lambda pieces, _: sentencepiece_pieces(pieces),
)

CLIP = TextEncoder(
    "the model's own CLIP text encoder",
    "the CLIP of Load Text-to-Video Folder",
    "clip_h",
    "h",
    "<|endoftext|>",
    lambda tokenizer: tokenizer.inv_vocab.__getitem__,
    bpe_pieces,
    lambda clip: clip.cond_stage_model.clip_h.transformer.get_input_embeddings(),
)

FAMILIES = (
    ModelFamily(
        "Wan 2.1 or 2.2 (Load Diffusion Model, or CCVD Demo Model)",
        ("text_embedding", "blocks.0.modulation", "blocks.0.cross_attn.q"),
        ComfyWanBackbone,
        WanConditions,
        UMT5,
    ),
    ModelFamily(
        "a text-to-video UNet such as ModelScope (Load Text-to-Video Folder)",
        ("unet.transformer_in", "unet.down_blocks.0", "unet.mid_block"),
        ComfyUNet3DBackbone,
        UNet3DConditions,
        CLIP,
    ),
)


def has_part(module: nn.Module, path: str) -> bool:
    """Whether a module has a submodule or parameter of this dotted name; compiled models answer for what they wrap."""
    part: Any = module
    for name in path.split("."):
        if not hasattr(part, name):
            return False
        part = getattr(part, name)
    return True


def family_of(model: ModelPatcher) -> ModelFamily:
    """The row that a MODEL belongs to. Raises CCVDError for a model of none."""
    inner = model.model.diffusion_model
    for family in FAMILIES:
        if family.has(inner):
            return family
    kind, network = (shorten(type(part).__name__)[1:-1] for part in (model.model, inner))
    raise CCVDError(
        f"CCVD cannot use the model connected to `model`: it is of the kind {kind} ({network}). Connect one of these: "
        f"{'; '.join(family.title for family in FAMILIES)}."
    )


def backbone_of(model: ModelPatcher, encode_text: EncodeText, encode_with: EncodeWith | None = None) -> HostedBackbone:
    """The backbone of a MODEL, in the number type that it computes in. Raises CCVDError for a model of no family."""
    made = family_of(model).backbone(model.model.diffusion_model, encode_text, model.model.get_dtype_inference())
    made.encode_with = encode_with
    return made


def no_text(_: str) -> EncodedText:
    """While sampling, prompts are encoded already."""
    raise CCVDError("This model is only used for sampling: it has no text encoder.")


def small_text_encoder(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> comfy.sd.CLIP:
    """ComfyUI's own UMT5 classes at the size that the metadata of a file states, with that file's weights."""
    own = dict(weights)
    tokenizer = {"spiece_model": own.pop("spiece_model"), "umt5xxl_min_length": int(metadata["min_length"])}
    config = {key: int(metadata[key]) for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size")}

    class Target:
        params: ClassVar[dict[str, object]] = {}
        clip = comfy.text_encoders.wan.te(dtype_t5=torch.float32)
        tokenizer = comfy.text_encoders.wan.WanT5Tokenizer

    return comfy.sd.CLIP(
        Target,
        tokenizer_data=tokenizer,
        parameters=sum(weight.numel() for weight in own.values()),
        state_dict=[own],
        model_options={"umt5xxl_model_config": config},
    )
