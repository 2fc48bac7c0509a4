"""Stage 1: train the demo base's VAE (Wan 2.1's shape, 16 base channels) on crops of the world.

    python demo/train_vae.py --out runs/vae

Sees every motion and style and about a hundred other emoji, never a held-out subject. Goes on from `--out/last.pt`.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from full_sequence_vae import STOCK_SHAPE, decode, encode_moments
from muon import Muon
from number_types import fast_dtype, number_type
from PIL import Image
from torch import Tensor
from world import (
    BACKGROUNDS,
    BASE_SUBJECTS,
    FRAMES,
    MOTIONS,
    SPRITE_FOLDER,
    Actor,
    apply_style,
    background_image,
    load_sprite,
    motion_path,
    place,
)

CROP = 64
IMAGE_STEPS, IMAGE_BATCH = 500, 16
CLIP_STEPS, CLIP_BATCH = 1900, 8
PEAK_LR = 4e-3
KL_WEIGHT = 2e-4
STYLES = ("plain", "plain", "plain", "noir", "blueprint", "negative")

torch._dynamo.config.recompile_limit = 64


def random_crop(rng: np.random.Generator, frames: int, subjects: list[str]) -> np.ndarray:
    """A CROP x CROP clip, uint8 [frames, CROP, CROP, 3], with one or two sprites moving through it."""
    name = str(rng.choice(list(BACKGROUNDS)))
    top = int(rng.integers(0, 128 - CROP + 1))
    back = background_image(name)[top : top + CROP, :CROP]
    if rng.random() < 0.3:  # any colour: unseen pictures have backgrounds of their own
        back = np.clip(back.astype(np.int16) + rng.integers(-60, 61, 3), 0, 255).astype(np.uint8)
    actors = []
    for _ in range(1 if rng.random() < 0.6 else 2):
        travel, size = float(rng.uniform(20, 36)), float(rng.uniform(40, 66))
        motion = str(rng.choice(MOTIONS))
        middle = travel * motion_path(motion, FRAMES).mean(0)
        x, y = rng.uniform(4, CROP - 4, 2) - middle
        actors.append(Actor(str(rng.choice(subjects)), motion, size, (float(x), float(y)), travel))
    clip = np.empty((frames, CROP, CROP, 3), np.uint8)
    for index in range(frames):
        image = Image.fromarray(back)
        for actor in actors:
            sprite = place(load_sprite(actor.subject), actor.size, actor.path(FRAMES)[index], CROP)
            image.paste(sprite, (0, 0), sprite)
        clip[index] = np.asarray(image)
    return apply_style(clip, str(rng.choice(STYLES)))


def batch(rng: np.random.Generator, size: int, frames: int, subjects: list[str]) -> Tensor:
    """[size, 3, frames, CROP, CROP] in -1..1."""
    clips = np.stack([random_crop(rng, frames, subjects) for _ in range(size)])
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def vae_loss(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """(training loss, mean squared error) of one batch; forward in what this processor computes fast, loss in fp32."""
    moments = encode_moments(vae, clips.to(fast_dtype())).float()
    mean, log_var = moments.chunk(2, 1)
    log_var = log_var.clamp(-20, 10)
    latents = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
    error = decode(vae, latents.to(fast_dtype())).float() - clips
    kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean()
    # Large errors sit on moving edges: the squared part keeps them from being given up on.
    reconstruction = error.abs().mean() + error.square().mean()
    edges = sum((error.diff(dim=axis)).abs().mean() for axis in (3, 4))
    return reconstruction + 0.5 * edges + KL_WEIGHT * kl, error.detach().square().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/vae"))
    args = parser.parse_args()
    # Momentum of taps without a gradient decays into denormals, which cost a CPU a hundred times a normal number.
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**STOCK_SHAPE)
    with torch.no_grad():  # default posterior noise (std near 1) would drown the signal
        vae.get_parameter("quant_conv.bias")[STOCK_SHAPE["z_dim"] :] = -6
    matrices = [p for p in vae.parameters() if p.ndim >= 4 and p.shape[0] > 1]
    rest = [p for p in vae.parameters() if not (p.ndim >= 4 and p.shape[0] > 1)]
    optimizers = [Muon(matrices, lr=PEAK_LR), torch.optim.Adam(rest, lr=PEAK_LR / 2, betas=(0.9, 0.98))]
    subjects = list(BASE_SUBJECTS) * 4 + [f"texture/{path.stem}" for path in (SPRITE_FOLDER / "texture").glob("*.png")]
    subjects.sort()
    total, start = IMAGE_STEPS + CLIP_STEPS, 0
    last = args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        vae.load_state_dict(state["vae"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    print(f"computing in {number_type()}", flush=True)
    began, errors = time.time(), []
    for step in range(start, total):
        rng = np.random.default_rng([1, step])
        torch.manual_seed(step)
        images = step < IMAGE_STEPS
        clips = batch(rng, IMAGE_BATCH if images else CLIP_BATCH, 1 if images else FRAMES, subjects)
        warm = min(1.0, (step + 1) / 60)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        for optimizer, peak in zip(optimizers, (PEAK_LR, PEAK_LR / 2), strict=True):
            optimizer.param_groups[0]["lr"] = peak * warm * max(decay, 0.01)
        loss, squared = vae_loss(vae, clips)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        errors.append(float(squared))
        if (step + 1) % 25 == 0:
            psnr = 10 * math.log10(4 / np.mean(errors[-25:]))
            print(f"{step + 1}/{total} loss {loss.item():.4f} psnr {psnr:.2f} {time.time() - began:.0f}s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == total:
            saved = {"vae": vae.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step + 1}
            torch.save(saved, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)


if __name__ == "__main__":
    main()
