"""Stage 2: give the VAE Wan's latent statistics and encode the training clips once.

python demo/latents.py --vae runs/vae/last.pt --out runs/latents.pt
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from full_sequence_vae import STOCK_SHAPE, encode_moments
from number_types import fast_dtype, number_type
from splits import held_out
from torch import Tensor
from world import Scene, random_scene

CLIPS = 12000
ACTORS = (0.36, 0.34, 0.16, 0.14)
"""Share of clips with one, two, three and four actors."""

torch._dynamo.config.recompile_limit = 64


def training_scenes(count: int, seed: int = 11) -> list[Scene]:
    """Random scenes of the base's subjects and motions, without the captions held out for evaluation."""
    rng = np.random.default_rng(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, 1 + int(rng.choice(len(ACTORS), p=ACTORS)))
        if not held_out(scene):
            scenes.append(scene)
    return scenes


def to_tensor(clips: np.ndarray) -> Tensor:
    """uint8 [n, frames, height, width, 3] -> [n, 3, frames, height, width] in -1..1."""
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


@torch.no_grad()
def fold_statistics(vae: AutoencoderKLWan, mean: Tensor, std: Tensor) -> None:
    """Make the VAE's latents have Wan's per-channel mean and std, exactly, inside its two 1x1x1 convolutions.

    `mean` and `std` [z] are the statistics of the latents it gives now; decode(encode(x)) does not change.
    """
    config: Any = vae.config
    wan_mean, wan_std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
    into: Any = vae.quant_conv
    out_of: Any = vae.post_quant_conv
    gain = wan_std / std
    offset = wan_mean - mean * gain
    channels = len(gain)
    into.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    into.bias[:channels] = into.bias[:channels] * gain + offset
    into.bias[channels:] += 2 * gain.log()
    out_of.bias -= (out_of.weight.flatten(1) / gain) @ offset
    out_of.weight.copy_(out_of.weight / gain.view(1, -1, 1, 1, 1))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/latents.pt"))
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    vae = AutoencoderKLWan(**STOCK_SHAPE)
    vae.load_state_dict(torch.load(args.vae, weights_only=True)["vae"])
    scenes, began, parts = training_scenes(CLIPS), time.time(), []
    print(f"computing in {number_type()}", flush=True)
    for start in range(0, CLIPS, 8):
        clips = to_tensor(np.stack([scene.render() for scene in scenes[start : start + 8]]))
        parts.append(encode_moments(vae, clips.to(fast_dtype()))[:, : STOCK_SHAPE["z_dim"]].float())
        if start % 800 == 0:
            print(f"{start}/{CLIPS} {time.time() - began:.0f}s", flush=True)
    latents = torch.cat(parts)
    std, mean = torch.std_mean(latents, (0, 2, 3, 4))
    latents = (latents - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    fold_statistics(vae, mean, std)
    captions = [scene.caption() for scene in scenes]
    torch.save({"vae": vae.state_dict(), "latents": latents.half(), "captions": captions}, args.out)
    print(f"mean {mean.tolist()}\nstd {std.tolist()}\nwritten {args.out} {time.time() - began:.0f}s")


if __name__ == "__main__":
    main()
