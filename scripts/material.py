"""What `try_it.py` learns from: the demo pictures or the user's own files, and how they come into the workflow."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
from clips import CLIPS, write_clip
from comfy_server import ComfyServer
from installing import REPOSITORY
from workflow import Json, WorkflowError, set_widgets

sys.path.append(str(REPOSITORY))

from ccvd_core.concepts.kinds import KINDS, Kind, Medium

DEMO_PICTURES, LEARN, AGGREGATE = "CCVD_DemoPictures", "CCVD_LearnConcept", "CCVD_AggregateAdapters"
DEMO_FOLDER = REPOSITORY / "demo" / "pictures"

PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
MOVING_PICTURES = {".gif"}
"""Clips that ComfyUI's loader does not read: they become mp4 first."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


DEMO_LIMITS = (
    "The demo model only knows emoji on plain backgrounds: a photo becomes a blot. For photos use the nodes with a Wan "
    "model (README, Models)."
)


class MaterialError(ValueError):
    """The given pictures, clips or captions cannot be used."""


@dataclass(frozen=True)
class Loader:
    """ComfyUI's own node that loads a folder below its input folder, with a caption in a text file beside each file."""

    node: str
    output: str
    type: str
    learn_input: str
    """The input of Learn Concept that takes what it loads."""


LOADERS: dict[Medium, Loader] = {
    "pictures": Loader("LoadImageTextDataSetFromFolder", "images", "IMAGE", "images"),
    "clips": Loader("LoadVideoTextDataSetFromFolder", "videos", "VIDEO", "video"),
}


@dataclass(frozen=True)
class Lesson:
    """What is learned, and the video that shows it."""

    kind: Kind
    name: str
    class_words: str
    prompt: str
    files: tuple[Path, ...] = ()
    captions: tuple[str, ...] = ()
    """One per file, empty where there is none."""
    is_demo: bool = False
    """Whether the files are the pack's own, which the node Demo Pictures brings."""

    @property
    def medium(self) -> Medium:
        return KINDS[self.kind].medium


DEMO_LESSONS: dict[Kind, tuple[str, str]] = {
    "subject": ("fox", "a <fox> moving right on green grass"),
    "motion": ("hopping", "a dog <hopping> on yellow sand"),
    "style": ("noir", "a dog moving right on green grass in <noir> style"),
}
"""Concepts that the demo base has never seen, each with a prompt that shows it."""


def demo_lesson(kind: Kind, prompt: str | None = None) -> Lesson:
    """The demo's concept of a kind."""
    name, usual = DEMO_LESSONS[kind]
    index = json.loads((DEMO_FOLDER / "index.json").read_text(encoding="utf-8"))
    lesson = Lesson(kind, name, index[name]["class_words"], prompt or usual, is_demo=True)
    files = find_files(DEMO_FOLDER / name, lesson)
    return replace(lesson, files=tuple(files), captions=captions_beside(files))


def own_lesson(arguments: Any, folder: Path) -> Lesson:
    """The user's concept; `folder` takes files that have to be converted first."""
    name = concept_name(arguments.name)
    usual: dict[Kind, str] = {
        "subject": f"a <{name}> moving right on green grass",
        "motion": f"a dog <{name}> on green grass",
        "style": f"a dog moving right on green grass in <{name}> style",
    }
    lesson = Lesson(arguments.kind, name, arguments.class_words, arguments.prompt or usual[arguments.kind])
    files = find_files(arguments.images, lesson)
    captions = read_captions(arguments.captions, files) if arguments.captions else captions_beside(files)
    return replace(lesson, files=tuple(readable(file, folder) for file in files), captions=captions)


def concept_name(text: str) -> str:
    """The name as Learn Concept takes it: files and folders are called after it."""
    name = text.strip().removeprefix("<").removesuffix(">").lower()
    if not NAME.fullmatch(name):
        raise MaterialError(
            f"--name {text!r} cannot be a concept's name: it takes 1 to 64 of a-z, 0-9, _ and -, starting "
            "with a letter or digit."
        )
    return name


def choose_lesson(arguments: Any, folder: Path) -> Lesson:
    return own_lesson(arguments, folder) if arguments.images else demo_lesson(arguments.kind, arguments.prompt)


def find_files(folder: Path, lesson: Lesson) -> list[Path]:
    if not folder.is_dir():
        raise MaterialError(f"{folder} is not a folder.")
    wanted = CLIPS | MOVING_PICTURES if lesson.medium == "clips" else PICTURES
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in wanted)
    if not files:
        raise MaterialError(
            f"{folder} has no {lesson.medium}: a {lesson.kind} is learned from {lesson.medium} "
            f"({', '.join(sorted(suffix[1:] for suffix in wanted))})."
        )
    return files


def read_captions(path: Path, files: Sequence[Path]) -> tuple[str, ...]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(lines) != len(files):
        raise MaterialError(f"{path} has {len(lines)} captions for {len(files)} files: write one line per file.")
    return tuple(lines)


def captions_beside(files: Sequence[Path]) -> tuple[str, ...]:
    """The text file of the same name beside each picture or clip, as trainers have it; empty where there is none."""
    texts = [file.with_suffix(".txt") for file in files]
    return tuple(" ".join(text.read_text(encoding="utf-8").split()) if text.is_file() else "" for text in texts)


def readable(file: Path, folder: Path) -> Path:
    """The file itself, or an mp4 of an animated GIF."""
    if file.suffix.lower() not in MOVING_PICTURES:
        return file
    with av.open(file) as clip:
        stream = clip.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(stream)]
        return write_clip(frames, folder / f"{file.stem}.mp4", round(stream.average_rate or 8))


def put_material(server: ComfyServer, lesson: Lesson) -> str:
    """Copy the files and their captions into a folder of ComfyUI's input; returns its name."""
    name = f"try_it_{lesson.name}"
    folder = server.base / "input" / name
    shutil.rmtree(folder, ignore_errors=True)
    for file, caption in zip(lesson.files, lesson.captions, strict=True):
        server.put_input(file, name)
        (folder / file.name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return name


def put_into(
    workflow: Json, object_info: Mapping[str, Json], lesson: Lesson, folder: str | None, steps: int | None
) -> None:
    """Put the lesson into the example workflow; `folder` of ComfyUI's input has the user's own files."""
    if folder is None:
        set_widgets(workflow, object_info, DEMO_PICTURES, what=lesson.name, name=lesson.name)
    else:
        load_from_folder(workflow, LOADERS[lesson.medium], folder)
    concept: dict[str, Any] = {"name": lesson.name, "class_words": lesson.class_words, "kind": lesson.kind}
    if steps is not None:
        concept["steps"] = steps
    set_widgets(workflow, object_info, LEARN, **concept)
    set_widgets(workflow, object_info, AGGREGATE, prompt=lesson.prompt)


def load_from_folder(workflow: Json, loader: Loader, folder: str) -> None:
    """Put ComfyUI's own loader in the place of Demo Pictures, with its links."""
    source, learn = (only_node(workflow, kind) for kind in (DEMO_PICTURES, LEARN))
    source |= {
        "type": loader.node,
        "properties": {"Node name for S&R": loader.node},
        "inputs": [],
        "outputs": source["outputs"][:2],
        "widgets_values": [folder],
    }
    media, texts = source["outputs"]
    media |= {"name": loader.output, "type": loader.type, "label": None, "localized_name": loader.output}
    texts |= {"name": "texts", "label": None, "localized_name": "texts"}
    sockets = {socket["name"]: (index, socket) for index, socket in enumerate(learn["inputs"])}
    (number,) = media["links"]
    sockets["images"][1]["link"] = None
    index, socket = sockets[loader.learn_input]
    socket["link"] = number
    (link,) = [link for link in workflow["links"] if link[0] == number]
    link[4:6] = index, loader.type


def only_node(workflow: Json, kind: str) -> Json:
    found = [node for node in workflow["nodes"] if node["type"] == kind]
    if len(found) != 1:
        raise WorkflowError(f"The workflow has {len(found)} {kind} nodes; expected one.")
    return found[0]
