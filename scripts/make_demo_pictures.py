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

from clips import write_clip
from installing import REPOSITORY
from PIL import Image

sys.path.insert(0, str(REPOSITORY / "demo"))
from world import FPS, HELD_OUT_MOTIONS, HELD_OUT_STYLES, HELD_OUT_SUBJECTS, Actor, Frames, Scene

FOLDER = REPOSITORY / "demo" / "pictures"
STYLE_WORDS = "plain"
"""What the base knows in a held-out style's place: `in plain style`."""


@dataclass(frozen=True)
class Sample:
    """One picture (a single frame) or clip, and its caption."""

    frames: Frames
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
        yield Scene((Actor(subject, "still", size, centre),), background)


MOTION_STARTS = {"hopping": (0.0, 28.0), "diagonal": (-16.0, -16.0), "zigzag": (0.0, 0.0)}
"""Where a motion starts, in pixels from the middle, so that it stays inside the frame."""


def motion_scenes(motion: str) -> Iterator[Scene]:
    right, down = MOTION_STARTS[motion]
    for subject, shift, background in (
        ("cat", -6.0, "blue sky"),
        ("frog", 0.0, "green grass"),
        ("car", 6.0, "pink wall"),
    ):
        yield Scene((Actor(subject, motion, 52.0, (64.0 + right + shift, 64.0 + down)),), background)


def style_scenes(style: str) -> Iterator[Scene]:
    for subject, background in (("cat", "green grass"), ("apple", "pink wall"), ("car", "blue sky")):
        yield Scene((Actor(subject, "still", 58.0, (64.0, 64.0)),), background, style, names_style=True)  # type: ignore[arg-type]


def demo_concepts() -> Iterator[DemoConcept]:
    """Every concept that the world holds back from the base."""
    for name, words in HELD_OUT_SUBJECTS.items():
        yield DemoConcept(name, "subject", words, tuple(sample(scene, name, 1) for scene in subject_scenes(name)))
    for name, words in HELD_OUT_MOTIONS.items():
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
