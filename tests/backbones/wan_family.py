"""Every Wan model that ComfyUI's own detection knows, built small: its class and settings, and a VAE to go with it."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

HEADS, TEXT_WIDTH = 2, 192
SMALL = {"dim": 64, "ffn_dim": 96, "num_heads": HEADS, "num_layers": 3, "text_dim": TEXT_WIDTH}
GENERAL, ANIMATE, DANCER = (f"comfy.ldm.wan.model{part}" for part in ("", "_animate", "_wandancer"))


@dataclass(frozen=True)
class Member:
    """One model: ComfyUI's class of it, the diffusion model's class, and what it is built with.

    `learns` says whether a concept can be learned on it, `start_image` whether it is shown the first frame.
    """

    base: str
    inner: str
    config: dict[str, Any] = field(default_factory=dict)
    learns: bool = True
    start_image: bool = False
    detected: dict[str, Any] = field(default_factory=dict)
    """Settings that only a file's metadata tells."""

    @property
    def channels(self) -> int:
        return self.config.get("out_dim", 16)


FAMILY = {
    "2.1 text-to-video": Member("WAN21", f"{GENERAL}.WanModel"),
    "2.1 image-to-video": Member("WAN21", f"{GENERAL}.WanModel", {"model_type": "i2v", "in_dim": 36}, start_image=True),
    "2.1 first and last frame": Member(
        "WAN21",
        f"{GENERAL}.WanModel",
        {"model_type": "i2v", "in_dim": 36, "flf_pos_embed_token_number": 514},
        start_image=True,
    ),
    "2.2 image-to-video 14B": Member("WAN21", f"{GENERAL}.WanModel", {"in_dim": 36}, start_image=True),
    "2.2 text-and-image 5B": Member("WAN22", f"{GENERAL}.WanModel", {"in_dim": 48, "out_dim": 48}),
    "2.2 Fun Inpaint 5B": Member("WAN22", f"{GENERAL}.WanModel", {"in_dim": 100, "out_dim": 48}, start_image=True),
    "2.2 Fun Control 5B": Member("WAN22", f"{GENERAL}.WanModel", {"in_dim": 148, "out_dim": 48}, start_image=True),
    "2.1 Fun Control": Member("WAN21", f"{GENERAL}.WanModel", {"model_type": "i2v", "in_dim": 48}, start_image=True),
    "2.1 Fun Control with reference": Member(
        "WAN21",
        f"{GENERAL}.WanModel",
        {"model_type": "i2v", "in_dim": 48, "in_dim_ref_conv": 16},
        start_image=True,
    ),
    "2.2 Fun Control 14B": Member(
        "WAN21", f"{GENERAL}.WanModel", {"in_dim": 52, "in_dim_ref_conv": 16}, start_image=True
    ),
    "VACE": Member("WAN21_Vace", f"{GENERAL}.VaceWanModel", {"vace_layers": 3, "vace_in_dim": 96}),
    "2.1 Fun Camera": Member("WAN21_Camera", f"{GENERAL}.CameraWanModel", {"in_dim": 32}, start_image=True),
    "2.2 Fun Camera": Member(
        "WAN21_Camera", f"{GENERAL}.CameraWanModel", {"model_type": "camera_2.2", "in_dim": 36}, start_image=True
    ),
    "Causal Forcing": Member(
        "WAN21_CausalAR", "comfy.ldm.wan.ar_model.CausalWanModel", learns=False, detected={"causal_ar": True}
    ),
    "HuMo": Member("WAN21_HuMo", f"{GENERAL}.HumoWanModel", {"in_dim": 36}, learns=False),
    "Sound-to-Video": Member("WAN22_S2V", f"{GENERAL}.WanModel_S2V", learns=False),
    "Animate": Member("WAN22_Animate", f"{ANIMATE}.AnimateWanModel", {"in_dim": 36, "num_layers": 5}, learns=False),
    "FlowRVS": Member("WAN21_FlowRVS", f"{GENERAL}.WanModel", learns=False, detected={"model_type": "flow_rvs"}),
    "SCAIL": Member("WAN21_SCAIL", f"{GENERAL}.SCAILWanModel", {"in_dim": 20}, learns=False),
    "SCAIL-2": Member("WAN21_SCAIL2", f"{GENERAL}.SCAIL2WanModel", {"in_dim": 20}, learns=False),
    "Dancer": Member("WAN22_WanDancer", f"{DANCER}.WanDancerModel", {"in_dim": 36}, learns=False),
}


def weights_of(member: Member, device: str = "cpu") -> dict[str, Tensor]:
    """Random weights under the keys of its files."""
    import comfy.ops

    module, name = member.inner.rsplit(".", 1)
    inner = getattr(importlib.import_module(module), name)(
        **{**SMALL, **member.config}, operations=comfy.ops.disable_weight_init, device=device, dtype=torch.float32
    )
    generator = torch.Generator().manual_seed(4)
    return {
        key: value if value.is_meta else torch.randn(value.shape, generator=generator) * 0.05
        for key, value in inner.state_dict().items()
    }


def metadata_of(member: Member) -> dict[str, str]:
    """What no small file's weights tell: real heads are 128 wide."""
    told = {"num_heads": HEADS, "text_dim": TEXT_WIDTH, **member.detected}
    return {"config": json.dumps({"transformer": told})}


def build(member: Member) -> Any:
    """ComfyUI's MODEL of a file with this model's weights. One that cannot learn has no memory behind its weights."""
    import comfy.model_detection
    import comfy.model_management
    from comfy.model_patcher import ModelPatcher

    device = "cpu" if member.learns else "meta"
    weights = weights_of(member, device)
    config = comfy.model_detection.model_config_from_unet(weights, "", metadata=metadata_of(member))
    assert config is not None
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(weights, "", device=device)
    assert type(model).__name__ == member.base
    if member.learns:
        model.load_model_weights(weights, "")
    else:
        for block in model.diffusion_model.blocks:  # what a model is recognised by
            block.modulation = torch.nn.Parameter(torch.zeros(1, 6, SMALL["dim"]))
    cpu = torch.device("cpu")
    return ModelPatcher(model, cpu, cpu)


class PoolingVAE:
    """Stands in for a VAE of this many channels and scale, 4 frames to a latent after the first: means of pixels."""

    latent_dim = 3

    def __init__(self, channels: int) -> None:
        self.latent_channels, self._scale = channels, 16 if channels == 48 else 8
        self.encoded: list[Tensor] = []

    def spacial_compression_encode(self) -> int:
        return self._scale

    def encode(self, frames: Tensor) -> Tensor:
        self.encoded.append(frames)
        pixels = frames.permute(3, 0, 1, 2)[None].float()
        first, rest = pixels[:, :, :1], pixels[:, :, 1:]
        size = (self._scale, self._scale)
        parts = [torch.nn.functional.avg_pool3d(first, (1, *size))]
        if rest.shape[2]:
            parts.append(torch.nn.functional.avg_pool3d(rest, (4, *size)))
        return torch.cat(parts, 2).repeat(1, self.latent_channels // 3 + 1, 1, 1, 1)[:, : self.latent_channels] * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        pixels = latents[:, :3].repeat_interleave(self._scale, 3).repeat_interleave(self._scale, 4)
        return pixels.permute(0, 2, 3, 4, 1).clamp(-1, 1) / 2 + 0.5
