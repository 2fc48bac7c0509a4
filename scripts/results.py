"""What `try_it.py` leaves behind: the video, its frames as one picture, the concept, and the workflow in the page."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from clips import first_frame, read_frames
from comfy_messages import ComfyError
from comfy_server import ComfyServer
from installing import REPOSITORY
from PIL import Image, ImageOps
from workflow import Json

sys.path.append(str(REPOSITORY))  # last: to ComfyUI's own code `nodes` is its nodes.py

from ccvd_core.sheet import Tile, sheet, spread

RUNS = "try_it"
"""The folder of ComfyUI's node packs that holds the workflows that were run: its template browser lists them."""
RESULTS = ("{}.mp4", "{}_frames.png", "{}.safetensors")


def save_results(
    server: ComfyServer, history: dict[str, Any], name: str, learned_from: Sequence[Path], out: Path
) -> list[Path]:
    """Copy the video and the concept to `out` and draw the contact sheet; returns what was written.

    Nothing that is there is overwritten: a second `rex` becomes `rex_2`.
    """
    shown = [entry for output in history["outputs"].values() for entry in output.get("images", [])]
    videos = [server.output_path(entry) for entry in shown if Path(entry["filename"]).suffix == ".mp4"]
    if not videos:
        raise ComfyError("The workflow ran but saved no mp4.")
    out.mkdir(parents=True, exist_ok=True)
    video, frames, concept = free_names(out, name)
    shutil.copyfile(videos[-1], video)
    contact_sheet(video, learned_from).save(frames)
    learned = concept_files(server.base, name)
    for file in learned:
        shutil.copyfile(file, concept)
    return [video, frames, *([concept] if learned else [])]


def concept_files(base: Path, name: str) -> list[Path]:
    """The concept's file in the libraries of a ComfyUI's base directory."""
    return sorted((base / "models" / "ccvd").glob(f"*/{name}.safetensors"))


def free_names(folder: Path, name: str) -> list[Path]:
    """Paths of the three results under a name that none of them has yet."""
    number = 1
    while True:
        stem = name if number == 1 else f"{name}_{number}"
        paths = [folder / result.format(stem) for result in RESULTS]
        if not any(path.exists() for path in paths):
            return paths
        number += 1


def contact_sheet(video: Path, learned_from: Sequence[Path] = (), columns: int = 9) -> Image.Image:
    """Frames of a video side by side, spread evenly over its length; above them what the concept was learned from."""
    frames = read_frames(video)
    chosen = [frames[index] for index in spread(len(frames), columns)]
    learned = [ImageOps.fit(first_frame(file), chosen[0].size) for file in learned_from[: len(chosen)]]
    return sheet([[Tile(picture) for picture in row] for row in (learned, chosen) if row])


def shelf_of_runs(base: Path) -> Path:
    """A node pack without nodes in a ComfyUI's base directory, before it starts: the page can open its workflows."""
    pack = base / "custom_nodes" / RUNS
    shelf = pack / "example_workflows"
    shelf.mkdir(parents=True, exist_ok=True)
    (pack / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n", encoding="utf-8")
    return shelf


def keep_workflow(base: Path, name: str, workflow: Json, address: str) -> str:
    """Put the workflow on the shelf; returns the address at which the page opens it."""
    (shelf_of_runs(base) / f"{name}.json").write_text(json.dumps(workflow), encoding="utf-8")
    return f"{address}/?{urlencode({'template': name, 'source': RUNS})}"


def keep_thumbnail(base: Path, name: str, sheet: Path) -> None:
    """The contact sheet as the workflow's picture in the template browser."""
    with Image.open(sheet) as picture:
        picture.convert("RGB").save(shelf_of_runs(base) / f"{name}.jpg", quality=90)
