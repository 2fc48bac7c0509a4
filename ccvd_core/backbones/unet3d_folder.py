"""A text-to-video folder of diffusers (ModelScope, ZeroScope) as a whole model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .clip_text import ClipText
from .diffusers_folder import UNET, FoundPart, not_one, read_folder
from .diffusers_unet3d import DiffusersUNet3DBackbone
from .whole_model import WholeModel


def is_text_to_video_folder(path: Path) -> bool:
    """Whether diffusers keeps a 3D UNet in it."""
    return (path / UNET.folder / "config.json").is_file()


def load_text_to_video_folder(path: Path, device: torch.device, dtype: torch.dtype) -> WholeModel:
    """Raises CCVDError for a folder that is not such a model, saying what was found."""
    folder = read_folder(path)
    unet, vae = loaded(UNet3DConditionModel, folder.unet), loaded(AutoencoderKL, folder.vae)
    text: Any = CLIPTextModel(CLIPTextConfig(**folder.text.config))
    missing, _ = text.load_state_dict(load_file(folder.text.weights), strict=False)
    if missing := [name for name in missing if not name.endswith("position_ids")]:
        raise not_one(path, f"its text_encoder lacks {missing[0]}")
    for module, kind in ((unet, dtype), (vae, torch.float32), (text, torch.float32)):
        module.to(device, kind).eval().requires_grad_(False)
    reader = ClipText(text, CLIPTokenizer.from_pretrained(str(folder.tokenizer)))
    backbone = DiffusersUNet3DBackbone(unet, cache(reader.encode), folder.scheduler, encode_with=reader.encode_with)
    scale = float(vae.config.get("scaling_factor", 0.18215))
    cell = 2 ** (len(vae.config["block_out_channels"]) - 1)
    depth = 2 ** (len(unet.config["block_out_channels"]) - 1)

    def encode(pixels: Tensor) -> Tensor:
        frames = pixels[0].movedim(1, 0)
        return (vae.encode(frames).latent_dist.mode() * scale).movedim(0, 1)[None]

    def decode(latents: Tensor) -> Tensor:
        return vae.decode(latents[0].movedim(1, 0) / scale, return_dict=False)[0].movedim(0, 1)[None]

    return WholeModel(
        backbone,
        encode,
        decode,
        unet.config["in_channels"],
        cell,
        cell * depth,
        device,
        [*unet.down_blocks, unet.mid_block, *unet.up_blocks],
    )


def loaded(kind: Any, part: FoundPart) -> Any:
    """A model of diffusers with the weights of a part."""
    module = kind.from_config(dict(part.config))
    module.load_state_dict(load_file(part.weights))
    return module
