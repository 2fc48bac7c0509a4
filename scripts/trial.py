"""The part of `try_it.py` that runs in the environment: material, ComfyUI, the example workflow, the results."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from comfy_server import REPOSITORY, ComfyError, ComfyServer, sigterm_is_ctrl_c
from environment import SetupError, ensure_environment
from PIL import Image, ImageOps
from try_it import parse_arguments
from workflow import Prompt, WorkflowError, nodes_of, set_inputs, to_prompt

sys.path.insert(0, str(REPOSITORY / "demo"))
from world import FPS, HELD_OUT_MOTIONS, HELD_OUT_SUBJECTS, Actor, Scene

WORKFLOW = REPOSITORY / "example_workflows" / "1 Learn a concept and make a video.json"
LEARN, AGGREGATE = "CCVD_LearnConcept", "CCVD_AggregateAdapters"
LOADERS = {"pictures": "LoadImageTextDataSetFromFolder", "clips": "LoadVideoTextDataSetFromFolder"}
"""ComfyUI's own nodes that load a folder below its input folder, with a caption in a text file beside each file."""
LEARN_INPUTS = {"pictures": "images", "clips": "video"}

PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
CLIPS = {".mp4", ".avi", ".mov", ".webm", ".mkv"}
MOVING_PICTURES = {".gif"}
"""Clips that ComfyUI's loader does not read: they become mp4 first."""

Kind = Literal["subject", "motion", "style"]


class MaterialError(ValueError):
    """The given pictures, clips or captions cannot be used."""


@dataclass(frozen=True)
class Lesson:
    """What is learned, and the video that shows it."""

    kind: Kind
    name: str
    class_words: str
    prompt: str
    files: tuple[Path, ...] = ()
    captions: tuple[str, ...] = ()
    """One per file, empty where there is none; or none at all."""

    @property
    def medium(self) -> Literal["pictures", "clips"]:
        return "clips" if self.kind == "motion" else "pictures"


DEMO_LESSONS: dict[Kind, Lesson] = {
    "subject": Lesson("subject", "fox", HELD_OUT_SUBJECTS["fox"], "a <fox> moving right on green grass"),
    "motion": Lesson("motion", "hopping", HELD_OUT_MOTIONS["hopping"], "a dog <hopping> on yellow sand"),
    "style": Lesson("style", "noir", "plain", "a dog moving right on green grass in <noir> style"),
}
"""Concepts that the demo base has never seen."""

DEMO_SCENES: dict[Kind, tuple[Scene, ...]] = {
    "subject": tuple(
        Scene((Actor("fox", "still", size, centre),), background)
        for size, centre, background in (
            (60.0, (64.0, 64.0), "blue sky"),
            (52.0, (44.0, 76.0), "pink wall"),
            (56.0, (82.0, 56.0), "yellow sand"),
            (64.0, (60.0, 50.0), "dark night"),
            (54.0, (70.0, 84.0), "green grass"),
        )
    ),
    "motion": tuple(
        Scene((Actor(subject, "hopping", 56.0, (x, 92.0)),), background)
        for subject, x, background in (
            ("cat", 44.0, "blue sky"),
            ("frog", 64.0, "green grass"),
            ("car", 84.0, "pink wall"),
        )
    ),
    "style": tuple(
        Scene((Actor(subject, "still", 58.0, (64.0, 64.0)),), background, "noir", names_style=True)
        for subject, background in (("cat", "green grass"), ("apple", "pink wall"), ("car", "blue sky"))
    ),
}


def demo_lesson(kind: Kind, prompt: str | None, folder: Path) -> Lesson:
    """The demo's concept of a kind, its pictures or clips drawn into `folder`."""
    lesson = DEMO_LESSONS[kind]
    return with_scenes(replace(lesson, prompt=prompt or lesson.prompt), DEMO_SCENES[kind], lesson.name, folder)


def with_scenes(lesson: Lesson, scenes: Sequence[Scene], shown: str, folder: Path) -> Lesson:
    """The lesson with scenes drawn into `folder` as its material, `<name>` in the captions for what is `shown`."""
    files = []
    for number, scene in enumerate(scenes):
        file = folder / f"{lesson.name}_{number}.png"
        if lesson.medium == "clips":
            file = write_clip(list(scene.render()), file.with_suffix(".mp4"), FPS)
        else:
            Image.fromarray(scene.render(frames=1)[0]).save(file)
        files.append(file)
    captions = tuple(scene.caption().replace(shown, f"<{lesson.name}>") for scene in scenes)
    return replace(lesson, files=tuple(files), captions=captions)


def own_lesson(arguments: Any, folder: Path) -> Lesson:
    """The user's concept; `folder` takes files that have to be converted first."""
    prompt = (
        arguments.prompt
        or {
            "subject": f"a <{arguments.name}> moving right on green grass",
            "motion": f"a dog <{arguments.name}> on green grass",
            "style": f"a dog moving right on green grass in <{arguments.name}> style",
        }[arguments.kind]
    )
    lesson = Lesson(arguments.kind, arguments.name, arguments.class_words, prompt)
    files = find_files(arguments.images, lesson)
    captions = read_captions(arguments.captions, files) if arguments.captions else captions_beside(files)
    return replace(lesson, files=tuple(readable(file, folder) for file in files), captions=captions)


def choose_lesson(arguments: Any, folder: Path) -> Lesson:
    return own_lesson(arguments, folder) if arguments.images else demo_lesson(arguments.kind, arguments.prompt, folder)


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
        return write_clip(frames, folder / f"{file.stem}.mp4", round(stream.average_rate or FPS))


def write_clip(frames: Sequence[np.ndarray], path: Path, fps: int) -> Path:
    """An H.264 file; an odd last row or column is cut off, because the codec wants even sizes."""
    height, width = (size - size % 2 for size in frames[0].shape[:2])
    with av.open(path, "w") as clip:
        stream = clip.add_stream("libx264", fps, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            clip.mux(stream.encode(picture))
        clip.mux(stream.encode())
    return path


def put_material(server: ComfyServer, lesson: Lesson, name: str | None = None) -> str:
    """Copy the files and their captions into a folder of ComfyUI's input; returns its name."""
    name = name or f"try_it_{lesson.name}"
    folder = server.base / "input" / name
    shutil.rmtree(folder, ignore_errors=True)
    for file in lesson.files:
        server.put_input(file, name)
    for file, caption in zip(lesson.files, lesson.captions or [""] * len(lesson.files), strict=True):
        (folder / file.name).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return name


def prepare(prompt: Prompt, lesson: Lesson, folder: str, steps: int | None) -> None:
    """Put the lesson into the example workflow."""
    loaders = [node_id for loader in LOADERS.values() for node_id in nodes_of(prompt, loader)]
    if len(loaders) != 1:
        raise WorkflowError(f"{WORKFLOW.name} has {len(loaders)} nodes that load a folder; expected one.")
    prompt[loaders[0]] = {"class_type": LOADERS[lesson.medium], "inputs": {"folder": folder}}
    for node_id in nodes_of(prompt, LEARN):
        inputs = prompt[node_id]["inputs"]
        for name in LEARN_INPUTS.values():
            inputs.pop(name, None)
        inputs[LEARN_INPUTS[lesson.medium]] = [loaders[0], 0]
        inputs["captions"] = [loaders[0], 1]
    concept: dict[str, Any] = {"name": lesson.name, "class_words": lesson.class_words, "kind": lesson.kind}
    if steps is not None:
        concept["steps"] = steps
    set_inputs(prompt, LEARN, **concept)
    set_inputs(prompt, AGGREGATE, prompt=lesson.prompt)


SECONDS_BETWEEN_LINES = 20.0
"""In a file, where a line cannot be overwritten."""


class Progress:
    """One line on the terminal that says which node runs, how far it is and what it says."""

    def __init__(self, prompt: Prompt, object_info: dict[str, dict[str, Any]]) -> None:
        self._titles = {
            node_id: object_info[node["class_type"]]["display_name"] or node["class_type"]
            for node_id, node in prompt.items()
        }
        self._start = time.monotonic()
        self._node = self._step = self._text = ""
        self._printed, self._printed_at = "", 0.0

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "executing" and data.get("node"):
            self._node, self._step, self._text = self._titles.get(data["node"], data["node"]), "", ""
        elif kind == "progress_state":
            running = [state for state in data["nodes"].values() if state["state"] == "running" and state["max"] > 1]
            self._step = "".join(f"{state['value']:.0f}/{state['max']:.0f}" for state in running[-1:])
        elif kind == "progress_text":
            self._text = " ".join(data["text"].split())
        else:
            return
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        parts = (f"{now - self._start:5.0f} s", self._node, self._step, self._text)
        line = "  ".join(part for part in parts if part)
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{line[: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
        elif self._node != self._printed or now - self._printed_at > SECONDS_BETWEEN_LINES:
            print(line, flush=True)
            self._printed, self._printed_at = self._node, now

    def end(self) -> None:
        if sys.stdout.isatty():
            print()


def save_results(server: ComfyServer, history: dict[str, Any], lesson: Lesson, out: Path) -> list[Path]:
    """Copy the video and the concept to `out` and draw the contact sheet; returns what was written."""
    shown = [entry for output in history["outputs"].values() for entry in output.get("images", [])]
    videos = [server.output_path(entry) for entry in shown if Path(entry["filename"]).suffix == ".mp4"]
    if not videos:
        raise ComfyError("The workflow ran but saved no mp4.")
    out.mkdir(parents=True, exist_ok=True)
    written = [Path(shutil.copyfile(videos[-1], out / f"{lesson.name}.mp4"))]
    written.append(contact_sheet(written[0], out / f"{lesson.name}_frames.png", lesson.files))
    for concept in (server.base / "models" / "ccvd").rglob(f"{lesson.name}.safetensors"):
        written.append(Path(shutil.copyfile(concept, out / concept.name)))
    return written


def contact_sheet(video: Path, path: Path, learned_from: Sequence[Path] = (), columns: int = 9, gap: int = 4) -> Path:
    """Frames of a video side by side, spread evenly over its length; above them what the concept was learned from."""
    frames = read_frames(video)
    chosen = [frames[index] for index in np.unique(np.linspace(0, len(frames) - 1, columns).round().astype(int))]
    width, height = chosen[0].size
    rows = [[ImageOps.fit(first_frame(file), (width, height)) for file in learned_from[: len(chosen)]], chosen]
    rows = [row for row in rows if row]
    sheet = Image.new("RGB", (len(chosen) * (width + gap) - gap, len(rows) * (height + 3 * gap) - 3 * gap), "white")
    for line, row in enumerate(rows):
        for number, frame in enumerate(row):
            sheet.paste(frame, (number * (width + gap), line * (height + 3 * gap)))
    sheet.save(path)
    return path


def read_frames(video: Path) -> list[Image.Image]:
    with av.open(video) as clip:
        return [frame.to_image() for frame in clip.decode(clip.streams.video[0])]


def first_frame(file: Path) -> Image.Image:
    """A picture, or the first frame of a clip."""
    if file.suffix.lower() in CLIPS:
        return read_frames(file)[0]
    with Image.open(file) as picture:
        return picture.convert("RGB")


def learn_and_use(server: ComfyServer, arguments: Any, lesson: Lesson) -> None:
    start = time.monotonic()
    object_info = server.object_info()
    prompt = to_prompt(json.loads(WORKFLOW.read_text(encoding="utf-8")), object_info)
    prepare(prompt, lesson, put_material(server, lesson), arguments.steps)
    print(f"Learning <{lesson.name}> from {len(lesson.files)} {lesson.medium}, then making: {lesson.prompt}")
    progress = Progress(prompt, object_info)
    try:
        history = server.run(prompt, progress)
    finally:
        progress.end()
    for path in save_results(server, history, lesson, arguments.out):
        print(f"  {path}")
    print(f"Learned and used <{lesson.name}> in {time.monotonic() - start:.0f} s.")


def keep_open(server: ComfyServer) -> None:
    print(f"ComfyUI runs at {server.address} (its files: {server.base}). Press Ctrl+C to end it.", flush=True)
    while True:
        time.sleep(3600)


def main() -> int:
    arguments = parse_arguments()
    # With --ui the artist goes on working, so what is learned and made must stay.
    base = arguments.out.resolve() / "comfyui" if arguments.ui else None
    try:
        with tempfile.TemporaryDirectory() as folder, sigterm_is_ctrl_c():
            lesson = choose_lesson(arguments, Path(folder))
            print("Starting ComfyUI ...", flush=True)
            with ComfyServer(ensure_environment().comfyui, base_directory=base, port=arguments.port) as server:
                learn_and_use(server, arguments, lesson)
                if arguments.ui:
                    keep_open(server)
    except (SetupError, ComfyError, WorkflowError, MaterialError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
