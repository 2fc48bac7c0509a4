"""Wan text-to-video from a folder of diffusers, or from the demo base's three files, as a whole model."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from ..errors import CCVDError
from .diffusers_wan import DiffusersWanBackbone
from .umt5_text import Umt5Text
from .whole_model import WholeModel

TEXT_ROWS = 512
"""Rows to which Wan's texts are padded."""
DEMO_FILES = {part: f"ccvd_demo_{part}.safetensors" for part in ("model", "text_encoder", "vae")}


def is_wan_folder(path: Path) -> bool:
    """Whether diffusers keeps a Wan in it."""
    config = path / "transformer" / "config.json"
    return config.is_file() and json.loads(config.read_text("utf-8")).get("_class_name") == "WanTransformer3DModel"


def load_wan_folder(path: Path, device: torch.device, dtype: torch.dtype) -> WholeModel:
    """Raises CCVDError for a Wan that makes no video from text alone."""
    if (path / "transformer_2").is_dir():
        raise CCVDError(
            f"{path.name} has two experts (Wan 2.2 A14B). Learn on it in ComfyUI, where each is a MODEL of its own."
        )
    local: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    config = read_json(path / "transformer" / "config.json")
    if config.get("in_channels", 16) != config.get("out_channels", 16):
        raise CCVDError(f"{path.name} is an image-to-video model. Use a text-to-video one, or the nodes in ComfyUI.")
    transformer: Any = WanTransformer3DModel.from_pretrained(path / "transformer", torch_dtype=dtype, **local)
    vae: Any = AutoencoderKLWan.from_pretrained(path / "vae", torch_dtype=torch.float32, **local)
    text: Any = UMT5EncoderModel.from_pretrained(path / "text_encoder", dtype=dtype, **local)
    vocabulary = path / "tokenizer" / "spiece.model"
    if not vocabulary.is_file():
        raise CCVDError(f"{path.name} lacks tokenizer/spiece.model, the vocabulary of its text encoder.")
    return assembled(transformer, vae, Umt5Text(text, vocabulary.read_bytes(), TEXT_ROWS), device)


def is_demo_base(path: Path) -> bool:
    """Whether it holds the demo base's three files."""
    return all((path / name).is_file() for name in DEMO_FILES.values())


def load_demo_base(path: Path, device: torch.device, dtype: torch.dtype) -> WholeModel:
    """The demo base: configurations as diffusers has them lie beside its files, in `diffusers/`."""
    model, text_file, vae_file = (path / DEMO_FILES[part] for part in ("model", "text_encoder", "vae"))
    configs = path / "diffusers"
    transformer: Any = WanTransformer3DModel.from_config(read_json(configs / "transformer" / "config.json"))
    transformer.load_state_dict(convert_wan_transformer_to_diffusers(load_file(model)))
    vae: Any = AutoencoderKLWan.from_config(read_json(configs / "vae" / "config.json"))
    vae.load_state_dict(convert_wan_vae_to_diffusers(load_file(vae_file)))
    with safe_open(text_file, "pt") as file:
        sizes: dict[str, Any] = {name: int(value) for name, value in file.metadata().items()}
    state = load_file(text_file)
    vocabulary = state.pop("spiece_model").numpy().tobytes()
    rows = sizes.pop("min_length")
    encoder = UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu", dropout_rate=0.0))
    encoder.load_state_dict({**state, "encoder.embed_tokens.weight": state["shared.weight"]})
    if dtype != torch.float32:
        transformer.to(dtype)
    return assembled(transformer, vae.float(), Umt5Text(encoder.float(), vocabulary, rows), device)


def assembled(transformer: Any, vae: Any, text: Umt5Text, device: torch.device) -> WholeModel:
    """The parts as one; the text encoder stays where it is, and reads each text once."""
    for module in (transformer, vae):
        module.to(device).eval().requires_grad_(False)
    config: Any = vae.config
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))

    def encode(pixels: Tensor) -> Tensor:
        return (vae.encode(pixels).latent_dist.mode() - mean) / std

    def decode(latents: Tensor) -> Tensor:
        return vae.decode(latents * std + mean, return_dict=False)[0]

    cell = getattr(config, "scale_factor_spatial", 8)
    patch = transformer.config.patch_size[-1]
    backbone = DiffusersWanBackbone(transformer, cache(text.encode))
    return WholeModel(
        backbone, encode, decode, transformer.config.in_channels, cell, cell * patch, device, list(transformer.blocks)
    )


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
