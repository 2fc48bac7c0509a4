"""Stage 1: teach the demo base's VAE (Wan 2.1's shape, 16 base channels) the world.

    python demo/train_vae.py --out runs/vae

Begins from the committed weights. Sees every motion and style and about a hundred other emoji, never a held-out
subject. Its latents stay close to those that it began with, so that a video model trained on them goes on working.
Goes on from `--out/last.pt`.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from base import load_base
from diffusers import AutoencoderKLWan
from full_sequence_vae import decode, encode_moments
from muon import Muon
from torch import Tensor
from world.backgrounds import SIZE, background_image
from world.motions import HELD_OUT_MOTIONS, MOTIONS
from world.scenes import FRAMES, Choices, draw, random_scene
from world.styles import HELD_OUT_STYLES, STYLES, apply_style
from world.subjects import SPRITES, Subject

from ccvd_core.number_types import fast_dtype, number_type

CROP = 64
STEPS, BATCH = 800, 8
PICTURE_EVERY, PICTURE_BATCH = 8, 24
"""Every so many steps is one of single frames, which every clip begins with."""
PEAK_LR = 6e-4
EMA = 0.995
SQUARED = 4.0
"""Weight of the squared error in [-1, 1], beside half the absolute one."""
KL_WEIGHT = 2e-4
ANCHOR = 0.05
"""Weight of the latents' squared distance to where they were, in Wan's standard deviations."""
EVERY_MOTION = Choices(motions=(*MOTIONS, *HELD_OUT_MOTIONS))
TEXTURES = 0.25
"""Share of the actors that are emoji of no class."""

torch._dynamo.config.recompile_limit = 64


def other_emoji() -> list[str]:
    """Files of the emoji that belong to no class."""
    return sorted(f"texture/{path.stem}" for path in (SPRITES / "texture").glob("*.png"))


def random_crop(rng: np.random.Generator, frames: int, others: list[str]) -> np.ndarray:
    """A CROP x CROP clip, uint8 [frames, CROP, CROP, 3], around one of the actors of a random scene."""
    scene = random_scene(rng, 1 + int(rng.integers(3)), EVERY_MOTION, styled=0.0)
    actors = [
        replace(actor, subject=Subject("", str(rng.choice(others)), actor.subject.look))
        if rng.random() < TEXTURES
        else actor
        for actor in scene.actors
    ]
    middle = actors[0].placed(FRAMES)[:, :2].mean(0) + rng.normal(0, 14, 2)
    left, top = (int(corner) for corner in (middle - CROP / 2).clip(0, SIZE - CROP))
    behind = background_image(scene.background)
    if rng.random() < 0.3:  # any colour: unseen pictures have backgrounds of their own
        behind = np.clip(behind.astype(np.int16) + rng.integers(-60, 61, 3), 0, 255).astype(np.uint8)
    clip = draw(actors, behind, FRAMES)[:frames] if frames > 1 else draw(actors, behind, FRAMES)[-1:]
    styles = [*STYLES, *HELD_OUT_STYLES]
    clip = apply_style(clip, str(rng.choice(styles)) if rng.random() < 0.45 else "plain")
    return clip[:, top : top + CROP, left : left + CROP]


def batch(rng: np.random.Generator, size: int, frames: int, others: list[str]) -> Tensor:
    """[size, 3, frames, CROP, CROP] in -1..1."""
    clips = np.stack([random_crop(rng, frames, others) for _ in range(size)])
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def vae_loss(vae: AutoencoderKLWan, before: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(training loss, mean squared error, drift of the latents) of one batch.

    Forward in what this processor computes fast, loss in fp32. `before` is the VAE whose latents are kept close to.
    """
    std = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1)
    mean, log_var = encode_moments(vae, clips.to(fast_dtype())).float().chunk(2, 1)
    with torch.no_grad():
        anchor = encode_moments(before, clips.to(fast_dtype())).float()[:, : mean.shape[1]]
    log_var = log_var.clamp(-20, 10)
    latents = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
    error = decode(vae, latents.to(fast_dtype())).float() - clips
    drift = ((mean - anchor) / std).square().mean()
    spread = log_var - 2 * std.log()
    kl = 0.5 * (spread.exp() - 1 - spread).mean()
    # Large errors sit on moving edges, and the median of what may be there gives them up: the squared part leads.
    reconstruction = 0.5 * error.abs().mean() + SQUARED * error.square().mean()
    edges = sum((error.diff(dim=axis)).abs().mean() for axis in (3, 4))
    loss = reconstruction + 0.25 * edges + KL_WEIGHT * kl + ANCHOR * drift
    return loss, error.detach().square().mean(), drift.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/vae"))
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    # Momentum of taps without a gradient decays into denormals, which cost a CPU a hundred times a normal number.
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    before = load_base().vae
    vae = copy.deepcopy(before).requires_grad_(True)
    average = copy.deepcopy(before)
    matrices = [p for p in vae.parameters() if p.ndim >= 4 and p.shape[0] > 1]
    rest = [p for p in vae.parameters() if not (p.ndim >= 4 and p.shape[0] > 1)]
    optimizers = [Muon(matrices, lr=PEAK_LR), torch.optim.Adam(rest, lr=PEAK_LR / 2, betas=(0.9, 0.98))]
    start, last = 0, args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        vae.load_state_dict(state["vae"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    print(f"computing in {number_type()}, from step {start}", flush=True)
    others = other_emoji()
    began, errors, drifts = time.time(), [], []
    for step in range(start, args.steps):
        rng = np.random.default_rng([2, step])
        torch.manual_seed(step)
        picture = step % PICTURE_EVERY == 0
        clips = batch(rng, PICTURE_BATCH if picture else BATCH, 1 if picture else FRAMES, others)
        share = min(1.0, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for optimizer, peak in zip(optimizers, (PEAK_LR, PEAK_LR / 2), strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        loss, squared, drift = vae_loss(vae, before, clips)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        kept = min(EMA, (step + 1) / (step + 11))
        torch._foreach_lerp_(list(average.parameters()), list(vae.parameters()), 1 - kept)
        if not picture:
            errors.append(float(squared))
            drifts.append(float(drift))
        if (step + 1) % 20 == 0:
            psnr = 10 * math.log10(4 / np.mean(errors[-40:]))
            print(
                f"{step + 1}/{args.steps} loss {loss.item():.4f} psnr {psnr:.2f} "
                f"drift {np.mean(drifts[-40:]) ** 0.5:.3f} {time.time() - began:.0f}s",
                flush=True,
            )
        if (step + 1) % 50 == 0 or step + 1 == args.steps:
            saved = {
                "vae": vae.state_dict(),
                "average": average.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1,
            }
            torch.save(saved, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)


if __name__ == "__main__":
    main()
