"""Draw the pictures and clips that come with the pack into `demo/pictures` (for maintainers, when the world changes).

    .environment/venv/bin/python scripts/make_demo_pictures.py

One folder for each concept that the demo base has never seen: its pictures (or clips, for a motion), and a caption in a
text file beside each, with the concept as `<name>`. `index.json` says what kind each is and its class words. The node
Demo Pictures, `try_it.py` and the example workflows read them; only this file knows how the world draws.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clips import write_clip
from installing import REPOSITORY
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(REPOSITORY / "demo"))
from world.motions import HELD_OUT_MOTIONS, course, motion_named
from world.scenes import FPS, FRAMES, Actor, Scene
from world.styles import HELD_OUT_STYLES
from world.subjects import HELD_OUT, Subject, held_out_subject

FOLDER = REPOSITORY / "demo" / "pictures"
STYLE_WORDS = "plain"
"""What the base knows in a held-out style's place: `in plain style`."""


@dataclass(frozen=True)
class Sample:
    """One picture (a single frame) or clip, and its caption."""

    frames: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True)
class DemoConcept:
    """What the node needs to know of one concept, and what it is learned from."""

    name: str
    kind: str
    class_words: str
    samples: tuple[Sample, ...]


def sample(scene: Scene, name: str, frames: int | None = None) -> Sample:
    """A scene drawn, its caption with the concept in angle brackets."""
    drawn = scene.render() if frames is None else scene.render(frames)
    return Sample(drawn, scene.caption().replace(name, f"<{name}>"))


def subject_scenes(subject: str) -> Iterator[Scene]:
    for size, centre, background in (
        (60.0, (64.0, 64.0), "blue sky"),
        (52.0, (44.0, 76.0), "pink wall"),
        (56.0, (82.0, 56.0), "yellow sand"),
        (64.0, (60.0, 50.0), "dark night"),
        (54.0, (70.0, 84.0), "green grass"),
    ):
        yield Scene((Actor(held_out_subject(subject), "still", size, centre),), background)


CAT, FROG, CAR, APPLE = (
    Subject(word, f"members/noto_{point}")
    for word, point in (("cat", "1f431"), ("frog", "1f438"), ("car", "1f697"), ("apple", "1f34e"))
)


def motion_scenes(motion: str) -> Iterator[Scene]:
    """Three clips, each of which keeps to the middle of the frame."""
    low, high = motion_named(motion).amounts[""]
    amount = (low + high) / 2
    moves = course(motion, amount, FRAMES)
    right, down = (-(axis.min() + axis.max()) / 2 for axis in (moves.x, moves.y))
    for subject, shift, background in ((CAT, -6.0, "blue sky"), (FROG, 0.0, "green grass"), (CAR, 6.0, "pink wall")):
        yield Scene((Actor(subject, motion, 52.0, (64.0 + right + shift, 64.0 + down), amount),), background)


def style_scenes(style: str) -> Iterator[Scene]:
    for subject, background in ((CAT, "green grass"), (APPLE, "pink wall"), (CAR, "blue sky")):
        yield Scene((Actor(subject, "still", 58.0, (64.0, 64.0)),), background, style)


def demo_concepts() -> Iterator[DemoConcept]:
    """Every concept that the world holds back from the base."""
    for name, (_, words) in HELD_OUT.items():
        yield DemoConcept(name, "subject", words, tuple(sample(scene, name, 1) for scene in subject_scenes(name)))
    for name, (words, _) in HELD_OUT_MOTIONS.items():
        yield DemoConcept(name, "motion", words, tuple(sample(scene, name) for scene in motion_scenes(name)))
    for name in HELD_OUT_STYLES:
        yield DemoConcept(name, "style", STYLE_WORDS, tuple(sample(scene, name, 1) for scene in style_scenes(name)))


def write(concept: DemoConcept, folder: Path) -> None:
    """The concept's files: 1.png or 1.mp4, 1.txt, 2.png, ..."""
    folder.mkdir(parents=True)
    for number, one in enumerate(concept.samples, start=1):
        if len(one.frames) == 1:
            Image.fromarray(one.frames[0]).save(folder / f"{number}.png", optimize=True)
        else:
            write_clip(list(one.frames), folder / f"{number}.mp4", FPS)
        (folder / f"{number}.txt").write_text(one.caption + "\n", encoding="utf-8", newline="\n")


def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    index = {}
    for concept in demo_concepts():
        write(concept, FOLDER / concept.name)
        index[concept.name] = {"kind": concept.kind, "class_words": concept.class_words}
    (FOLDER / "index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8", newline="\n")
    print(f"{len(index)} concepts in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
