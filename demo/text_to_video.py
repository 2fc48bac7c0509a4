"""The small text-to-video model: what of the world it knows, its sizes, and its folder in diffusers' layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip_tokenizer import MARKS, write_tokenizer
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from world.scenes import Choices, Scene, random_scene

sys.path.append(str(Path(__file__).parent.parent))  # the scripts of this folder run without an installed pack

from ccvd_core.backbones.clip_text import ClipText
from ccvd_core.backbones.diffusers_unet3d import DiffusersUNet3DBackbone

FOLDER = Path(__file__).parent / "weights" / "text_to_video"
KNOWN = Choices(
    words=("dog", "car", "ball", "frog", "star", "apple"),
    motions=("still", "moving left", "moving right"),
    styles=("plain",),
    backgrounds=("green grass", "blue sky", "pink wall"),
    speeds=("",),
    described=False,
)
"""What of the world this model knows."""
SIDE, LATENT_SIDE, CLIP_FRAMES = 64, 8, 9
TEXT_WIDTH = 64
VAE: Mapping[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (32, 32, 64, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
}
"""Widths are multiples of 32, the number of groups that ComfyUI's VAE normalises in."""
SCHEDULER: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
}
"""ModelScope's schedule, with v in place of the noise."""


def halved_frames(scene: Scene, frames: int = CLIP_FRAMES) -> NDArray[np.uint8]:
    """A clip of the world at half its size: uint8 [frames, SIDE, SIDE, 3]."""
    return halved(scene.render(frames))


def halved(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A clip [frames, 2 * SIDE, 2 * SIDE, 3] at half its size, by the mean over areas."""
    pixels = clip.astype(np.float32).reshape(len(clip), SIDE, 2, SIDE, 2, 3)
    return pixels.mean((2, 4)).round().astype(np.uint8)


def known_scene(rng: np.random.Generator, actors: int = 1) -> Scene:
    """A random scene of what the model knows."""
    scene = random_scene(rng, actors, KNOWN)
    return Scene(scene.actors, scene.background)


def to_pixels(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, height, width, 3] -> [n, 3, height, width] in -1..1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def words() -> tuple[str, ...]:
    """The words of its captions, each one token."""
    texts = (*KNOWN.words, *KNOWN.motions, *KNOWN.backgrounds, "a", "and", "on", "up", "down")
    return tuple(dict.fromkeys(word for text in texts for word in text.split()))


def build_vae() -> AutoencoderKL:
    """A picture VAE of factor 8, 4 channels."""
    return AutoencoderKL(**VAE)


def build_unet() -> UNet3DConditionModel:
    """Two resolutions of 8 x 8 and 4 x 4; the text is read in both."""
    return UNet3DConditionModel(
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=TEXT_WIDTH,
    )


def build_text(vocabulary: int) -> CLIPTextModel:
    """CLIP's text model of two layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_act="gelu",
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    )


@dataclass(frozen=True)
class SmallModel:
    """The parts of a folder, in fp32 on the CPU, frozen."""

    unet: UNet3DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel
    tokenizer: CLIPTokenizer

    def backbone(self) -> DiffusersUNet3DBackbone:
        text = ClipText(self.text, self.tokenizer)
        return DiffusersUNet3DBackbone(self.unet, text.encode, SCHEDULER, encode_with=text.encode_with)

    @torch.no_grad()
    def to_latents(self, frames: NDArray[np.uint8]) -> Tensor:
        """Latents [4, frames, 8, 8] of a clip, uint8 [frames, SIDE, SIDE, 3]."""
        found: Any = self.vae.encode(to_pixels(frames))
        return found.latent_dist.mean.movedim(0, 1) * float(self.vae.config["scaling_factor"])

    @torch.no_grad()
    def to_clips(self, latents: Tensor) -> Tensor:
        """Clips [n, frames, SIDE, SIDE, 3] in 0..1 of latents [n, 4, frames, 8, 8]."""
        vae: Any = self.vae
        flat = latents.float().movedim(1, 2).flatten(0, 1) / float(vae.config["scaling_factor"])
        found = vae.decode(flat)
        frames = found.sample.clamp(-1, 1).add(1).div(2).permute(0, 2, 3, 1)
        return frames.unflatten(0, latents.shape[:1] + latents.shape[2:3])


def load_small(folder: Path = FOLDER) -> SmallModel:
    """The model of a folder."""
    unet: Any = UNet3DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    for module in (unet, vae, text):
        module.eval().requires_grad_(False)
    return SmallModel(unet, vae, text, CLIPTokenizer.from_pretrained(str(folder / "tokenizer")))


def save_folder(folder: Path, unet: UNet3DConditionModel, vae: AutoencoderKL, text: CLIPTextModel) -> None:
    """All parts in fp16. `text` may lack the vocabulary between its pieces and CLIP's marks, which is zeros then."""
    pieces = text.config.vocab_size - 2
    whole = build_text(MARKS[1] + 1)
    state = dict(text.state_dict())
    name = next(key for key in state if key.endswith("token_embedding.weight"))
    table = torch.zeros(MARKS[1] + 1, TEXT_WIDTH)
    table[:pieces], table[list(MARKS)] = state[name][:pieces], state[name][pieces:]
    whole.load_state_dict({**state, name: table})
    for part, module in (("unet", unet), ("vae", vae), ("text_encoder", whole)):
        module.half().save_pretrained(folder / part)
    DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer", words())
    index = {"_class_name": "TextToVideoSDPipeline", "unet": ["diffusers", "UNet3DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
