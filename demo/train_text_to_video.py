"""Train the small text-to-video model: its VAE, then its UNet and text model together, and write its folder.

    python demo/train_text_to_video.py --out runs/text_to_video

Both stages end after their share of minutes. The VAE is kept in `--out` and not trained again; the UNet is written only
at the end. On cores that other work uses too, set OMP_NUM_THREADS=1: with two threads, of which one always waits, a
step took ten times as long. The committed weights had 4.5 minutes on half a core for the VAE (22.7 dB) and 12.5
on two for the UNet (1800 steps), with bf16 instructions: `python demo/evaluate_text_to_video.py` gives them 0.96 for
the object and 1.00 for the background of 48 held-out captions, but 0.35 for the motion, which is chance. The UNet reads
the text in its layers of pictures alone, and which way things move is learned last.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip_tokenizer import MARKS, write_tokenizer
from diffusers import AutoencoderKL
from muon import Muon
from text_to_video import (
    CLIP_FRAMES,
    FOLDER,
    LATENT_SIDE,
    SCHEDULER,
    build_text,
    build_unet,
    build_vae,
    halved_frames,
    known_scene,
    save_folder,
    to_pixels,
    words,
)
from torch import Tensor, nn
from transformers import CLIPTokenizer
from world.scenes import Scene, for_evaluation, random_scene
from world.subjects import SPRITES, Subject

from ccvd_core.backbones.noise_path import VelocityPath
from ccvd_core.backbones.unet3d import unet_path
from ccvd_core.number_types import fast_autocast, number_type

POOL = 2500
"""Pictures that the VAE sees, cut anew every time."""
CROP, CROP_SHARE = 32, 0.75
"""The VAE learns on corners of pictures first, which cost a quarter, and on whole ones in the end."""
PICTURE_BATCH, VAE_LR = 12, 5e-3
LATENT_NOISE, LATENT_WEIGHT = 0.05, 1e-3
"""The latents' noise while the VAE learns has a fixed size, beside a penalty on their own: noise of a size that it
chooses begins at 1 and drowns them for hundreds of steps."""
CLIPS = 1500
TWO_ACTORS = 0.2
STILL_SHARE = 0.3
"""Share of the UNet's time spent on single frames."""
STILL_BATCH, CLIP_BATCH, UNET_LR = 32, 6, 5e-3
DROP_CAPTION = 0.1


def optimizers(modules: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for matrices and kernels, Adam for the rest."""
    named = list(modules.named_parameters())
    matrices = [p for name, p in named if p.ndim >= 2 and min(p.shape[:2]) > 4 and "embedding" not in name]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [Muon(matrices, lr=lr), torch.optim.Adam(rest, lr=lr, betas=(0.9, 0.98))]


def step_all(steps: list[torch.optim.Optimizer], lr: float) -> None:
    for optimizer in steps:
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()


def rate(peak: float, done: int, spent: float) -> float:
    """Warm-up over 40 steps, constant, linear decay over the last 40 % of the time; `spent` is in 0..1."""
    return peak * min(1.0, (done + 1) / 40, max(0.02, (1 - spent) / 0.4))


def pool_pictures() -> np.ndarray:
    """Single frames of the whole world's classes and of other emoji: uint8 [POOL, side, side, 3]."""
    rng = np.random.default_rng(1)
    others = sorted(f"texture/{path.stem}" for path in (SPRITES / "texture").glob("*.png"))
    pictures = []
    while len(pictures) < POOL:
        scene = random_scene(rng, 1 + int(rng.integers(2)), styled=0.0)
        if rng.random() < 0.5:
            actors = tuple(replace(actor, subject=Subject("", str(rng.choice(others)))) for actor in scene.actors)
            scene = Scene(actors, scene.background)
        pictures.append(halved_frames(scene, 1)[0])
    return np.stack(pictures)


def train_vae(minutes: float) -> AutoencoderKL:
    torch.manual_seed(0)
    vae, rng, pool = build_vae(), np.random.default_rng(2), pool_pictures()
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps, began, done, errors = optimizers(vae, VAE_LR), time.monotonic(), 0, []
    while (spent := (time.monotonic() - began) / (60 * minutes)) < 1:
        pixels = to_pixels(pool[rng.integers(0, POOL, PICTURE_BATCH)])
        if spent < CROP_SHARE:
            top, left = rng.integers(0, pixels.shape[-1] - CROP + 1, 2)
            pixels = pixels[..., top : top + CROP, left : left + CROP]
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with fast_autocast(cache_enabled=False):
            found: Any = vae.encode(pixels)
            latents = found.latent_dist.mean
            decoded: Any = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents))
        error = decoded.sample.float() - pixels
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        loss = 0.5 * error.abs().mean() + 4 * error.square().mean() + 0.25 * edges
        loss = loss + LATENT_WEIGHT * latents.float().square().mean()
        loss.backward()
        step_all(steps, rate(VAE_LR, done, spent))
        done += 1
        errors.append(float(error.detach().square().mean()))
        if done % 25 == 0:
            print(f"vae {done} psnr {10 * math.log10(4 / np.mean(errors[-25:])):.2f} {spent:.2f}", flush=True)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def encode_clips(vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> tuple[Tensor, Tensor]:
    """Latents [CLIPS, 4, frames, 8, 8] of mean square 1 and token ids [CLIPS, 77]; sets the VAE's scaling factor."""
    rng, latents, captions = np.random.default_rng(3), [], []
    while len(latents) < CLIPS:
        scene = known_scene(rng, 1 + int(rng.random() < TWO_ACTORS))
        if for_evaluation(scene):
            continue
        with fast_autocast():
            found: Any = vae.encode(to_pixels(halved_frames(scene)))
        latents.append(found.latent_dist.mean.float().movedim(0, 1))
        captions.append(scene.caption())
    stacked = torch.stack(latents)
    scale = float(stacked.square().mean().rsqrt())
    vae.register_to_config(scaling_factor=scale)
    return stacked * scale, packed_ids(tokenizer, captions)


def packed_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [n, 77] without the gap before CLIP's marks."""
    ids = tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    pieces = len(tokenizer) - 2
    return torch.where(ids >= MARKS[0], ids - MARKS[0] + pieces, ids)  # type: ignore[operator]


def train_unet(latents: Tensor, ids: Tensor, no_caption: Tensor, vocabulary: int, minutes: float) -> nn.ModuleDict:
    torch.manual_seed(1)
    path = unet_path(SCHEDULER)
    assert isinstance(path, VelocityPath)
    model = nn.ModuleDict({"unet": build_unet(), "text": build_text(vocabulary)}).train()
    unet: Any = model["unet"]
    average = copy.deepcopy(model).requires_grad_(False).eval()
    steps, began, done = optimizers(model, UNET_LR), time.monotonic(), 0
    losses: dict[bool, list[float]] = {True: [], False: []}
    while (spent := (time.monotonic() - began) / (60 * minutes)) < 1:
        still = spent < STILL_SHARE or done % 4 == 0
        rows = torch.randint(len(latents), (STILL_BATCH if still else CLIP_BATCH,))
        clean, text = latents[rows], ids[rows]
        if still:
            frame = int(torch.randint(CLIP_FRAMES, ()))
            clean = clean[:, :, frame : frame + 1]
        text = torch.where(torch.rand(len(rows), 1) < DROP_CAPTION, no_caption, text)
        step = torch.sigmoid(0.3 + 1.4 * torch.randn(len(rows))) * 999
        level, noise = path.level_at(step), torch.randn_like(clean)
        noisy = path.mix(clean, noise, level) * (1 + level**2).rsqrt().view(-1, 1, 1, 1, 1)
        with fast_autocast(cache_enabled=False):
            context = model["text"](text)[0]
            found = unet(noisy, step, context, return_dict=False)[0]
        loss = (found.float() - path.target(clean, noise, level)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(steps[1].param_groups[0]["params"], 1.0)
        step_all(steps, rate(UNET_LR, done, spent))
        kept = min(0.99, (done + 1) / (done + 11))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)
        done += 1
        losses[still].append(loss.item())
        if done % 25 == 0:
            means = [np.mean(values[-25:]) if values else math.nan for values in losses.values()]
            print(f"unet {done} stills {means[0]:.4f} clips {means[1]:.4f} {spent:.2f}", flush=True)
    return average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/text_to_video"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--vae-minutes", type=float, default=7)
    parser.add_argument("--unet-minutes", type=float, default=25)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"computing in {number_type()}", flush=True)
    write_tokenizer(args.out / "tokenizer", words())
    tokenizer: Any = CLIPTokenizer.from_pretrained(str(args.out / "tokenizer"))
    vae, cached = build_vae(), args.out / "vae.pt"
    if not cached.exists():
        torch.save(train_vae(args.vae_minutes).state_dict(), cached)
    vae.load_state_dict(torch.load(cached, weights_only=True))
    vae.eval().requires_grad_(False)
    latents, ids = encode_clips(vae, tokenizer)
    print(f"{len(latents)} clips of {LATENT_SIDE} x {LATENT_SIDE} latents", flush=True)
    model = train_unet(latents, ids, packed_ids(tokenizer, [""])[0], len(tokenizer), args.unet_minutes)
    unet, text = model["unet"], model["text"]
    save_folder(args.folder, unet, vae, text)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
