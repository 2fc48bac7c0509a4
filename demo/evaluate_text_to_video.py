"""How well the small text-to-video model follows held-out captions of one object, and a sheet of its clips.

    python demo/evaluate_text_to_video.py --folder runs/text_to_video/model

The judge reads clips at the world's size: 64 x 64 pixels are enlarged. `ceiling` is real clips through the VAE.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from evaluate import contact_sheet
from text_to_video import CLIP_FRAMES, FOLDER, LATENT_SIDE, SmallModel, halved_frames, known_scene, load_small
from torch import Tensor
from torch.nn import functional
from world.backgrounds import SIZE
from world.judge import score
from world.scenes import Scene, for_evaluation

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.sampling import sample

STEPS, CFG = 20, 3.0


def held_out_scenes(count: int) -> list[Scene]:
    """Scenes of combinations that the model was not trained on."""
    rng, scenes = np.random.default_rng(9), []
    while len(scenes) < count:
        scene = known_scene(rng)
        if for_evaluation(scene):
            scenes.append(scene)
    return scenes


@torch.no_grad()
def draw(small: SmallModel, captions: list[str]) -> Tensor:
    """Clips [n, frames, 64, 64, 3] in 0..1; clip i always starts from the same noise."""
    backbone = small.backbone()
    prompts = [aggregate(backbone, caption, ()).prompt for caption in captions]
    shape = (len(captions), 4, CLIP_FRAMES, LATENT_SIDE, LATENT_SIDE)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with fast_autocast():
        latents = sample(
            backbone, Attachment(backbone, []), prompts, aggregate(backbone, "", ()).prompt, noise, STEPS, CFG
        )
    return small.to_clips(latents)


def enlarged(clip: Tensor) -> Tensor:
    """A clip [frames, height, width, 3] at the world's size."""
    wide = functional.interpolate(clip.movedim(-1, 1), (SIZE, SIZE), mode="bilinear", align_corners=False)
    return wide.movedim(1, -1)


def report(name: str, clips: Tensor, scenes: list[Scene]) -> None:
    scores = [score(enlarged(clip), scene) for clip, scene in zip(clips, scenes, strict=True)]
    parts = {part: np.mean([getattr(s, part) for s in scores]) for part in ("object", "motion", "background")}
    print(f"{name:8}", " ".join(f"{part} {share:.3f}" for part, share in parts.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--sheet", type=Path, default=Path("runs/text_to_video/sheet.png"))
    args = parser.parse_args()
    small, scenes = load_small(args.folder), held_out_scenes(args.clips)
    captions = [scene.caption() for scene in scenes]
    real = torch.stack([small.to_latents(halved_frames(scene)) for scene in scenes])
    report("ceiling", small.to_clips(real), scenes)
    clips = draw(small, captions)
    args.sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(clips[:9], captions[:9], args.sheet)
    report("model", clips, scenes)


if __name__ == "__main__":
    main()
