"""How well a video model draws what its captions say, on captions that its training has held out.

A *sampler* is any callable `sample(captions, seeds) -> clips`, and `reconstruct(clips) -> clips` passes real clips
through the model's VAE: the score of those is the ceiling of everything that the model can reach.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import world
from base import load_base
from latents import to_tensor
from number_types import fast_autocast, number_type
from numpy.typing import NDArray
from PIL import Image
from scorer import Score, Scorer
from splits import held_out
from torch import Tensor
from world import Scene

from ccvd_core.sheet import SheetStyle, Tile, in_rows, sheet, spread, strip

Clips = NDArray[np.uint8] | NDArray[np.floating] | Tensor
"""[n, F, H, W, 3], uint8 or float 0..1."""
Sampler = Callable[[list[str], list[int]], Clips]
Reconstructor = Callable[[NDArray[np.uint8]], Clips]

SPLITS = {"one_object": 1, "two_objects": 2}
"""Name of a split -> actors per clip."""
METRICS = ("object", "motion", "background")
SEED = 90_001
"""Seed of the evaluation's scenes; `SEED + actors` is used. The captions are disjoint from training by `held_out`."""
BATCH = 20
"""Clips asked of a sampler at a time."""


@dataclass(frozen=True)
class Row:
    """One line of the table: the share (0..1) of the clips of a split that got a metric right."""

    split: str
    metric: str
    value: float


def held_out_scenes(count: int, actors: int) -> tuple[Scene, ...]:
    """The first `count` random scenes of the base's subjects and motions whose combination training leaves out."""
    rng = np.random.default_rng(SEED + actors)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = world.random_scene(rng, actors)
        if held_out(scene):
            scenes.append(scene)
    return tuple(scenes)


def held_out_captions(count: int, actors: int) -> list[str]:
    """Captions of `held_out_scenes`."""
    return [scene.caption() for scene in held_out_scenes(count, actors)]


def as_float(clips: Clips) -> Tensor:
    """Clips as a float tensor in 0..1 on the CPU, same shape."""
    tensor = torch.as_tensor(clips).detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor.float() / 255


def shares(split: str, scores: Sequence[Score]) -> list[Row]:
    """One row per metric: the share of scores that are right."""
    return [Row(split, metric, float(np.mean([getattr(score, metric) for score in scores]))) for metric in METRICS]


def evaluate(sample: Sampler, reconstruct: Reconstructor, captions_per_split: int = 200) -> list[Row]:
    """Score a sampler on held-out captions of one and of two objects, its VAE on the real clips; print the table."""
    scorer = Scorer()
    rows: list[Row] = []
    for split, actors in SPLITS.items():
        scenes = held_out_scenes(captions_per_split, actors)
        drawn: list[Score] = []
        ceiling: list[Score] = []
        for start in range(0, len(scenes), BATCH):
            batch = scenes[start : start + BATCH]
            clips = sample([scene.caption() for scene in batch], list(range(start, start + len(batch))))
            drawn += [scorer.score(clip, scene) for clip, scene in zip(as_float(clips), batch, strict=True)]
            clips = reconstruct(np.stack([scene.render() for scene in batch]))
            ceiling += [scorer.score(clip, scene) for clip, scene in zip(as_float(clips), batch, strict=True)]
        rows += [*shares(split, drawn), *shares(f"ceiling_{split}", ceiling)]
    print(table(rows))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one split per line."""
    splits = list(dict.fromkeys(row.split for row in rows))
    value = {(row.split, row.metric): row.value for row in rows}
    lines = [f"{'split':<22}" + "".join(f"{metric:>12}" for metric in METRICS)]
    lines += [f"{split:<22}" + "".join(f"{value[split, metric]:>12.3f}" for metric in METRICS) for split in splits]
    return "\n".join(lines)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the rows with a header line `split,metric,value,number_type`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(field.name for field in fields(Row)), "number_type"])
        writer.writerows((row.split, row.metric, f"{row.value:.4f}", number_type()) for row in rows)


def contact_sheet(clips: Clips, captions: Sequence[str], path: Path, columns: int = 3) -> None:
    """Draw the first, middle and last frame of every clip over its caption, `columns` clips side by side."""
    pictures = (as_float(clips) * 255).round().clamp(0, 255).byte().numpy()
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
    parser.add_argument("--captions", type=int, default=200, help="captions per split")
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet of the first clips here")
    args = parser.parse_args()
    print(f"computing in {number_type()}", flush=True)
    base = load_base()

    def sample_captions(captions: list[str], seeds: list[int]) -> Tensor:
        with fast_autocast():
            return base.draw(captions, seeds, args.steps, args.cfg)

    def reconstruct(clips: NDArray[np.uint8]) -> Tensor:
        return base.to_clips(base.to_latents(to_tensor(clips)))

    write_csv(evaluate(sample_captions, reconstruct, args.captions), args.out)
    if args.sheet:
        captions = [*held_out_captions(9, 1), *held_out_captions(9, 2)]
        contact_sheet(sample_captions(captions, list(range(len(captions)))), captions, args.sheet)


if __name__ == "__main__":
    main()
