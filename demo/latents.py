"""Stage 2: encode the training clips once, in shards of a thousand.

    python demo/latents.py --vae runs/vae/last.pt --out runs/latents

A shard that is there is left as it is, so the command can be stopped and repeated; training takes what it finds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from base import load_base
from diffusers import AutoencoderKLWan
from full_sequence_vae import encode_moments
from rich_world.scenes import Scene, for_evaluation, random_scene
from torch import Tensor

from ccvd_core.number_types import fast_dtype, number_type

SHARDS, SHARD = 40, 1000
ACTORS = (0.44, 0.32, 0.13, 0.11)
"""Share of clips with one, two, three and four actors."""
BATCH = 4

torch._dynamo.config.recompile_limit = 64


def training_scenes(shard: int) -> list[Scene]:
    """The random scenes of one shard, without the combinations that are for evaluation."""
    rng = np.random.default_rng([3, shard])
    scenes: list[Scene] = []
    while len(scenes) < SHARD:
        scene = random_scene(rng, 1 + int(rng.choice(len(ACTORS), p=ACTORS)))
        if not for_evaluation(scene):
            scenes.append(scene)
    return scenes


def to_tensor(clips: np.ndarray) -> Tensor:
    """uint8 [n, frames, height, width, 3] -> [n, 3, frames, height, width] in -1..1."""
    return torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def trained_vae(path: Path) -> AutoencoderKLWan:
    """The averaged VAE of a checkpoint of `train_vae.py`; without one, the committed VAE."""
    vae = load_base().vae
    if path.exists():
        vae.load_state_dict(torch.load(path, weights_only=True)["average"])
    else:
        print(f"there is no {path}: taking the committed VAE", flush=True)
    return vae


@torch.no_grad()
def encode_scenes(vae: AutoencoderKLWan, scenes: list[Scene]) -> Tensor:
    """Model latents, fp16 [n, 16, 3, 16, 16], of scenes: the VAE's, in Wan's statistics."""
    config: Any = vae.config
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    parts = []
    for start in range(0, len(scenes), BATCH):
        clips = to_tensor(np.stack([scene.render() for scene in scenes[start : start + BATCH]]))
        moments = encode_moments(vae, clips.to(fast_dtype())).float()
        parts.append(((moments[:, : mean.shape[1]] - mean) / std).half())
    return torch.cat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/latents"))
    parser.add_argument("--shards", type=int, default=SHARDS)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    print(f"computing in {number_type()}", flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    vae, began = trained_vae(args.vae), time.time()
    for shard in range(args.shards):
        path = args.out / f"{shard:03d}.pt"
        if path.exists():
            continue
        scenes = training_scenes(shard)
        data = {"latents": encode_scenes(vae, scenes), "captions": [scene.caption() for scene in scenes]}
        torch.save(data, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        print(f"shard {shard + 1}/{args.shards} {time.time() - began:.0f}s", flush=True)


if __name__ == "__main__":
    main()
