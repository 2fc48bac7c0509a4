"""A tiny random text-to-video model in diffusers' layout, as its own classes write it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "demo"))

from clip_tokenizer import MARKS, write_tokenizer

VOCABULARY = MARKS[1] + 1
WORDS = ("a", "dog", "cat", "runs", "red", "on", "grass")
WIDTH = 32
UNET: Mapping[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
"""A `UNet3DConditionModel` of two resolutions; its text width is still to be said."""


def tiny_clip() -> Any:
    """CLIP's text encoder with random weights, `WIDTH` wide."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_act="gelu",
        bos_token_id=MARKS[0],
        eos_token_id=MARKS[1],
    )
    return CLIPTextModel(config).eval()


def write_text_to_video(folder: Path, prediction: str = "epsilon", variant: str | None = None) -> dict[str, Any]:
    """The folder's models, to compare with."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel

    torch.manual_seed(0)
    unet = UNet3DConditionModel(**UNET, cross_attention_dim=WIDTH).eval()
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        latent_channels=4,
    ).eval()
    text = tiny_clip()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction,
    )
    kept: dict[str, Any] = {"variant": variant} if variant else {}
    unet.save_pretrained(folder / "unet", **kept)
    vae.save_pretrained(folder / "vae", **kept)
    text.save_pretrained(folder / "text_encoder", **kept)
    scheduler.save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer", WORDS)
    index = {"_class_name": "TextToVideoSDPipeline", "unet": ["diffusers", "UNet3DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return {"unet": unet, "vae": vae, "text": text, "scheduler": scheduler}
