"""How well a video model in training draws what captions of the second world say, on combinations left out of training.

    python demo/evaluate_world.py --vae runs/vae/last.pt --base runs/base/last.pt --sheet runs/sheet.png

The ceiling, real clips passed through the VAE, is the score of everything that the model can reach.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from base import TRANSFORMER, DemoBase, layers_of, load_base
from diffusers import WanTransformer3DModel
from evaluate import contact_sheet
from latents import to_tensor, trained_vae
from rich_world.judge import Score, score
from rich_world.scenes import Scene, for_evaluation, random_scene
from text import build_encoder, vocabulary_size
from torch import Tensor

from ccvd_core.number_types import fast_autocast, number_type

METRICS = ("object", "motion", "speed", "background", "style", "crispness")
SEED = 70_001
BATCH = 20


@dataclass(frozen=True)
class Split:
    """One kind of caption: how many actors, and which share of the clips is in a style other than plain."""

    actors: int
    styled: float


SPLITS = {"one_object": Split(1, 0.0), "two_objects": Split(2, 0.0), "one_object_styled": Split(1, 1.0)}


def evaluation_scenes(split: Split, count: int) -> list[Scene]:
    """The first `count` random scenes of a split whose combination training leaves out."""
    rng = np.random.default_rng([SEED, split.actors, int(split.styled * 10)])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, split.actors, styled=split.styled)
        if for_evaluation(scene):
            scenes.append(scene)
    return scenes


def part_of(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The parameters whose names begin with `part.`, without it."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def checkpoint(vae: Path, base: Path | None) -> DemoBase:
    """The averaged parts of two checkpoints of the training; without `base`, the committed model with that VAE."""
    committed = load_base()
    trained = trained_vae(vae).eval()
    if base is None:
        return DemoBase(committed.transformer, committed.encoder, committed.tokenizer, trained)
    state = torch.load(base, weights_only=True)
    parts = {part: part_of(state["average"], part) for part in ("transformer", "encoder")}
    transformer = WanTransformer3DModel(**TRANSFORMER, num_layers=layers_of(parts["transformer"]))
    transformer.load_state_dict(parts["transformer"])
    tokenizer = state["tokenizer"].numpy().tobytes()
    encoder = build_encoder(vocabulary_size(tokenizer))
    encoder.load_state_dict(parts["encoder"])
    return DemoBase(transformer.eval(), encoder.eval(), tokenizer, trained)


def means(scores: Sequence[Score]) -> dict[str, float]:
    """Share of the scores that are right per metric, and their mean crispness (0 where nobody was found)."""
    return {metric: float(np.mean([float(getattr(one, metric) or 0.0) for one in scores])) for metric in METRICS}


def measured(
    draw: Callable[[list[str], list[int]], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
    captions: int,
    splits: Sequence[str] = tuple(SPLITS),
) -> dict[tuple[str, str], float]:
    """(split, metric) -> value, of drawn clips and, as `ceiling_<split>`, of the real ones through the VAE."""
    values: dict[tuple[str, str], float] = {}
    for split in splits:
        scenes = evaluation_scenes(SPLITS[split], captions)
        for name in (split, f"ceiling_{split}"):
            scores: list[Score] = []
            for start in range(0, captions, BATCH):
                some = scenes[start : start + BATCH]
                if name == split:
                    clips = draw([scene.caption() for scene in some], list(range(start, start + len(some))))
                else:
                    real = np.stack([scene.render() for scene in some])
                    clips = reconstruct(torch.from_numpy(real).float() / 255)
                scores += [score(clip, scene, reconstruct) for clip, scene in zip(clips, some, strict=True)]
            values |= {(name, metric): value for metric, value in means(scores).items()}
            print(f"{name:<26}" + "".join(f"{values[name, m]:>11.3f}" for m in METRICS), flush=True)
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--base", type=Path, help="without it, the committed model is judged")
    parser.add_argument("--captions", type=int, default=200, help="captions per split")
    parser.add_argument("--out", type=Path, help="write split,metric,value here")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet of the first clips here")
    args = parser.parse_args()
    base = checkpoint(args.vae, args.base)

    def draw(captions: list[str], seeds: list[int]) -> Tensor:
        with fast_autocast():
            return base.draw(captions, seeds)

    def reconstruct(clips: Tensor) -> Tensor:
        return base.to_clips(base.to_latents(to_tensor((clips * 255).round().byte().numpy())))

    print(f"computing in {number_type()}\n{'':<26}" + "".join(f"{metric:>11}" for metric in METRICS), flush=True)
    if args.captions:
        values = measured(draw, reconstruct, args.captions)
        if args.out:
            with args.out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(("split", "metric", "value"))
                writer.writerows((*key, f"{value:.4f}") for key, value in values.items())
    if args.sheet:
        captions = [scene.caption() for split in SPLITS.values() for scene in evaluation_scenes(split, 9)]
        contact_sheet(draw(captions, list(range(len(captions)))), captions, args.sheet)


if __name__ == "__main__":
    main()
