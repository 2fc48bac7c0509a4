"""How well the base draws what captions say, on combinations that its training leaves out.

    python demo/evaluate.py --sheet runs/sheet.png              the committed weights: results.csv
    python demo/evaluate.py --base runs/base/last.pt --out ...  a checkpoint of the training, on everything in the world

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
from base import KNOWN, TRANSFORMER, DemoBase, layers_of, load_base
from diffusers import WanTransformer3DModel
from latents import to_tensor, trained_vae
from number_types import fast_autocast, number_type
from PIL import Image
from text import build_encoder, vocabulary_size
from torch import Tensor
from world.judge import Score, score
from world.scenes import EVERYTHING, Choices, Scene, for_evaluation, random_scene

from ccvd_core.sheet import SheetStyle, Tile, in_rows, sheet, spread, strip

METRICS = ("object", "motion", "speed", "background", "style", "crispness")
SEED = 70_001
BATCH = 20
RESULTS = Path(__file__).parent / "results.csv"


@dataclass(frozen=True)
class Split:
    """One kind of caption: how many actors, and which share of the clips is in a style other than plain."""

    actors: int
    styled: float


SPLITS = {"one_object": Split(1, 0.0), "two_objects": Split(2, 0.0), "one_object_styled": Split(1, 1.0)}


def splits_of(known: Choices) -> list[str]:
    """The splits whose captions a model of these choices can read: with one style there are no others to name."""
    return [name for name, split in SPLITS.items() if not split.styled or len(known.styles) > 1]


def evaluation_scenes(split: Split, count: int, known: Choices = KNOWN) -> list[Scene]:
    """The first `count` random scenes of a split whose combination training leaves out."""
    rng = np.random.default_rng([SEED, split.actors, int(split.styled * 10)])
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, split.actors, known, split.styled)
        if for_evaluation(scene):
            scenes.append(scene)
    return scenes


def part_of(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The parameters whose names begin with `part.`, without it."""
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


def checkpoint(vae: Path, base: Path) -> DemoBase:
    """The averaged parts of two checkpoints of the training."""
    state = torch.load(base, weights_only=True)
    parts = {part: part_of(state["average"], part) for part in ("transformer", "encoder")}
    transformer = WanTransformer3DModel(**TRANSFORMER, num_layers=layers_of(parts["transformer"]))
    transformer.load_state_dict(parts["transformer"])
    tokenizer = state["tokenizer"].numpy().tobytes()
    encoder = build_encoder(vocabulary_size(tokenizer))
    encoder.load_state_dict(parts["encoder"])
    return DemoBase(transformer.eval(), encoder.eval(), tokenizer, trained_vae(vae).eval())


def means(scores: Sequence[Score]) -> dict[str, float]:
    """Share of the scores that are right per metric, and their mean crispness (0 where nobody was found)."""
    return {metric: float(np.mean([float(getattr(one, metric) or 0.0) for one in scores])) for metric in METRICS}


def measured(
    draw: Callable[[list[str], list[int]], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
    captions: int,
    known: Choices = KNOWN,
) -> dict[tuple[str, str], float]:
    """(split, metric) -> value, of drawn clips and, as `ceiling_<split>`, of the real ones through the VAE."""
    values: dict[tuple[str, str], float] = {}
    for split in splits_of(known):
        scenes = evaluation_scenes(SPLITS[split], captions, known)
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


def write_csv(values: Mapping[tuple[str, str], float], path: Path) -> None:
    """Lines `split,metric,value,number_type`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("split", "metric", "value", "number_type"))
        writer.writerows((*key, f"{value:.4f}", number_type()) for key, value in values.items())


def contact_sheet(clips: Tensor, captions: Sequence[str], path: Path, columns: int = 3) -> None:
    """First, middle and last frame of clips [n, frames, h, w, 3] in 0..1 over their captions, `columns` in a row."""
    pictures = (clips * 255).round().clamp(0, 255).byte().numpy()
    if len(pictures) != len(captions):
        raise ValueError(f"expected one caption per clip, got {len(captions)} captions for {len(pictures)} clips")
    moments = spread(pictures.shape[1], 3)
    tiles = [
        Tile(strip([Image.fromarray(clip[frame]) for frame in moments], gap=2), caption)
        for clip, caption in zip(pictures, captions, strict=True)
    ]
    sheet(in_rows(tiles, columns), SheetStyle(letters=11, lines=2)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--base", type=Path, help="without it, the committed weights are judged on what they know")
    parser.add_argument("--captions", type=int, default=200, help="captions per split")
    parser.add_argument("--out", type=Path, help="write the table here; for the committed weights results.csv")
    parser.add_argument("--sheet", type=Path, help="draw a contact sheet of the first clips here")
    args = parser.parse_args()
    base, known = (load_base(), KNOWN) if args.base is None else (checkpoint(args.vae, args.base), EVERYTHING)

    def draw(captions: list[str], seeds: list[int]) -> Tensor:
        with fast_autocast():
            return base.draw(captions, seeds)

    def reconstruct(clips: Tensor) -> Tensor:
        return base.to_clips(base.to_latents(to_tensor((clips * 255).round().byte().numpy())))

    print(f"computing in {number_type()}\n{'':<26}" + "".join(f"{metric:>11}" for metric in METRICS), flush=True)
    if args.captions:
        values = measured(draw, reconstruct, args.captions, known)
        out = args.out or (RESULTS if args.base is None else None)
        if out:
            write_csv(values, out)
    if args.sheet:
        scenes = [scene for split in splits_of(known) for scene in evaluation_scenes(SPLITS[split], 9, known)]
        captions = [scene.caption() for scene in scenes]
        contact_sheet(draw(captions, list(range(len(captions)))), captions, args.sheet)


if __name__ == "__main__":
    main()
