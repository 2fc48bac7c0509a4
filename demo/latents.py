"""Stage 2: encode the training clips and pictures once, in shards of a thousand.

    python demo/latents.py --vae runs/vae/last.pt --out runs/latents

A shard that is there is left as it is, so the command can be stopped and repeated; training takes what it finds. A
picture costs a tenth of a clip, so that who is who is learned from many more scenes than how they move.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from base import load_base
from diffusers import AutoencoderKLWan
from full_sequence_vae import encode_moments
from torch import Tensor
from world.scenes import FRAMES, Scene, for_evaluation, random_scene

from ccvd_core.number_types import fast_dtype, number_type

SHARDS, PICTURE_SHARDS, SHARD = 40, 40, 1000
ACTORS = (0.44, 0.32, 0.13, 0.11)
"""Share of clips with one, two, three and four actors."""
BATCH, PICTURE_BATCH = 4, 16

torch._dynamo.config.recompile_limit = 64


def training_scenes(seed: int, shard: int) -> list[Scene]:
    """The random scenes of one shard, without the combinations that are for evaluation."""
    rng = np.random.default_rng([seed, shard])
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
def encode_scenes(vae: AutoencoderKLWan, scenes: list[Scene], frames: int, batch: int) -> Tensor:
    """Model latents, fp16 [n, 16, latent frames, 16, 16], of scenes: the VAE's, in Wan's statistics."""
    config: Any = vae.config
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    parts = []
    for start in range(0, len(scenes), batch):
        clips = to_tensor(np.stack([scene.render(frames) for scene in scenes[start : start + batch]]))
        moments = encode_moments(vae, clips.to(fast_dtype())).float()
        parts.append(((moments[:, : mean.shape[1]] - mean) / std).half())
    return torch.cat(parts)


@dataclass(frozen=True)
class Kind:
    """What a shard holds: its folder below `--out`, the seed of its scenes, their frames and how many go at once."""

    folder: str
    seed: int
    frames: int
    batch: int


KINDS = {"clips": Kind("clips", 3, FRAMES, BATCH), "pictures": Kind("pictures", 4, 1, PICTURE_BATCH)}


def write_shards(vae: AutoencoderKLWan, kind: Kind, out: Path, shards: int) -> None:
    """Write the shards of one kind that are not there yet."""
    folder, began = out / kind.folder, time.time()
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = folder / f"{shard:03d}.pt"
        if path.exists():
            continue
        scenes = training_scenes(kind.seed, shard)
        latents = encode_scenes(vae, scenes, kind.frames, kind.batch)
        torch.save({"latents": latents, "captions": [scene.caption() for scene in scenes]}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
        print(f"{kind.folder} {shard + 1}/{shards} {time.time() - began:.0f}s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/latents"))
    parser.add_argument("--clips", type=int, default=SHARDS, help="shards of clips")
    parser.add_argument("--pictures", type=int, default=PICTURE_SHARDS, help="shards of pictures, made first")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    print(f"computing in {number_type()}", flush=True)
    vae = trained_vae(args.vae)
    write_shards(vae, KINDS["pictures"], args.out, args.pictures)
    write_shards(vae, KINDS["clips"], args.out, args.clips)


if __name__ == "__main__":
    main()
