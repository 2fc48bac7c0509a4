"""Does a followed box sit on its object, and is a lost one told? On the demo world, where every place is known.

    python benchmarks/following/run.py              the table: results.csv
    python benchmarks/following/run.py --clips 1    quicker: clips per motion

`overlap`: intersection over union with the sprite's visible box, mean over all frames (0 where it was given up).
`told`: share of the clips, in which the object is covered or leaves, that are given up at the latest one frame after
less than a tenth of it is seen. `late`: frames per clip that are followed from there on.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(ROOT / "benchmarks" / "following")]

from other_trackers import Box, Frames, median_flow, multiple_instance_learning  # noqa: E402
from world.backgrounds import BACKGROUNDS, SIZE, background_image  # noqa: E402
from world.motions import HELD_OUT_MOTIONS, MOTIONS  # noqa: E402
from world.scenes import Actor, draw, place, random_actor  # noqa: E402
from world.subjects import CLASSES, random_member  # noqa: E402

from ccvd_core.regions.follow import follow  # noqa: E402

SEED = 4_010
LENGTHS = (9, 33)
SOLID = 100
"""Opacity (of 255) from which a pixel belongs to a sprite."""
SEEN = 0.1

Visible = list[NDArray[np.bool_]]


@dataclass(frozen=True)
class Case:
    """A clip, where its object is seen in each frame, and how much of it is."""

    group: str
    frames: Frames
    boxes: list[Box | None]
    seen: list[float]


def template(frames: Frames, box: Box) -> list[Box | None]:
    """What Region Mask does, in pixels."""
    x, y, width, height = box
    track = follow(frames, 0, (x / SIZE, y / SIZE, width / SIZE, height / SIZE))
    found: list[Box | None] = [(x * SIZE, y * SIZE, w * SIZE, h * SIZE) for x, y, w, h in track.boxes]
    return found + [None] * (len(frames) - len(found))


METHODS: dict[str, Callable[[Frames, Box], list[Box | None]]] = {
    "template": template,
    "TrackerMIL": multiple_instance_learning,
    "median flow": median_flow,
}


def solid(actor: Actor, frames: int) -> Visible:
    """The pixels of an actor in each frame."""
    look = actor.subject.look.aspect
    return [
        np.asarray(place(actor.subject.sprite(), path, look, SIZE))[..., 3] > SOLID for path in actor.placed(frames)
    ]


def box_of(pixels: NDArray[np.bool_]) -> Box | None:
    rows, columns = np.nonzero(pixels)
    if not len(rows):
        return None
    return columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()


def background(rng: np.random.Generator, group: str) -> NDArray[np.uint8]:
    if group == "world":
        return background_image(str(rng.choice(list(BACKGROUNDS))))
    spots = np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((8, 8, 1)))
    return spots.astype(np.uint8)


def moving(rng: np.random.Generator, clips: int) -> Iterator[Case]:
    """Every motion of the demo world, over its own backgrounds and over coloured checks."""
    for group in ("world", "checks"):
        for frames in LENGTHS:
            for motion in [*MOTIONS, *HELD_OUT_MOTIONS] * clips:
                actor = random_actor(rng, random_member(rng, str(rng.choice(list(CLASSES)))), motion)
                pixels = solid(actor, frames)
                clip = list(draw([actor], background(rng, group), frames))
                yield Case(f"moving, {group}, {frames} frames", clip, [box_of(one) for one in pixels], [1.0] * frames)


def lost(rng: np.random.Generator, clips: int) -> Iterator[Case]:
    """One that another passes in front of, and one that leaves the frame."""
    words, frames = list(CLASSES), LENGTHS[-1]
    for group in ("world", "checks"):
        for number in range(4 * clips):
            behind = random_member(rng, str(rng.choice(words)))
            if number % 2:
                cast = [Actor(behind, "moving right", 44.0, (40.0, 64.0), 130.0)]
            else:
                front = random_member(rng, str(rng.choice(words)))
                cast = [
                    Actor(behind, "still", 36.0, (76.0, 64.0), 0.0),
                    Actor(front, "moving right", 72.0, (-36.0, 64.0), 112.0),
                ]
            own, *others = [solid(actor, frames) for actor in cast]
            left = [pixels & ~others[0][at] if others else pixels for at, pixels in enumerate(own)]
            seen = [float(pixels.sum() / own[0].sum()) for pixels in left]
            if min(seen) > SEEN:
                continue
            name = "leaves" if number % 2 else "covered"
            clip = list(draw(cast, background(rng, group), frames))
            yield Case(name, clip, [box_of(pixels) for pixels in left], seen)


def overlap(one: Box | None, other: Box | None) -> float:
    if one is None or other is None:
        return 0.0
    sides = [max(0.0, min(one[at] + one[at + 2], other[at] + other[at + 2]) - max(one[at], other[at])) for at in (0, 1)]
    both = sides[0] * sides[1]
    return float(both / (one[2] * one[3] + other[2] * other[3] - both))


def measured(cases: list[Case]) -> list[dict[str, str]]:
    rows = []
    for group in dict.fromkeys(case.group for case in cases):
        some = [case for case in cases if case.group == group]
        for name, method in METHODS.items():
            start = time.process_time()
            found = [method(case.frames, case.boxes[0] or (0, 0, 1, 1)) for case in some]
            spent = (time.process_time() - start) / sum(len(case.frames) for case in some)
            row = {"clips": group, "method": name, "milliseconds": f"{spent * 1000:.0f}"}
            if group.startswith("moving"):
                each = [
                    np.mean([overlap(*pair) for pair in zip(f, c.boxes, strict=True)])
                    for f, c in zip(found, some, strict=True)
                ]
                row |= {"overlap": f"{np.mean(each):.3f}", "worst": f"{np.quantile(each, 0.1):.3f}"}
            else:
                gone = [next(at for at, share in enumerate(case.seen) if share < SEEN) for case in some]
                beyond = [sum(box is not None for box in f[at:]) for f, at in zip(found, gone, strict=True)]
                row |= {"told": f"{np.mean([late < 2 for late in beyond]):.2f}", "late": f"{np.mean(beyond):.1f}"}
            rows.append(row)
            print(
                "  ".join(f"{value:<26}" if key == "clips" else f"{key} {value:<8}" for key, value in row.items()),
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2, help="clips per motion, and a quarter of those that are lost")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    rows: list[dict[str, str]] = measured([*moving(rng, args.clips), *lost(rng, args.clips)])
    with args.out.open("w", newline="", encoding="utf-8") as file:
        columns = ("clips", "method", "overlap", "worst", "told", "late", "milliseconds")
        writer: csv.DictWriter[str] = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
