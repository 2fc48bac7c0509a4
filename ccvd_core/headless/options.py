"""The words after `python -m ccvd_core`: commands and their options, under the names that the nodes' inputs have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..backbones.model_folders import kinds
from ..concepts.kinds import KINDS
from ..learning.clips import WINDOWS
from ..prompts.aggregation import PARTICIPANTS
from ..regions.modes import MODES, RegionSettings
from ..regions.scene import READINGS

Run = Callable[[argparse.Namespace, Any], None]
"""(arguments, how to say what is going on)."""
LIBRARY = Path("concepts")


def parser(runs: Mapping[str, Run]) -> argparse.ArgumentParser:
    """All commands with their options; `runs` are what they do, by name."""
    whole = argparse.ArgumentParser(
        prog="python -m ccvd_core",
        description="Teach a text-to-video model concepts and use them, without ComfyUI.",
        epilog=f"A model is a folder: {kinds()}.",
    )
    commands = whole.add_subparsers(required=True, metavar="command")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=runs[name])
        one.add_argument("--library", type=Path, default=LIBRARY, help="folder of concepts (default: %(default)s)")
        one.add_argument("--json", action="store_true", help="one JSON object per line")
        return one

    one = command("learn", "Learn a concept from a folder of pictures or clips.")
    add_model(one)
    one.add_argument("media", type=Path, help="folder of pictures or clips, captions in text files beside them")
    one.add_argument("--name", required=True, help="what prompts call it: <name>")
    one.add_argument("--class-words", required=True, help="what it is, in words that the model knows: dog")
    one.add_argument("--kind", choices=list(KINDS), default="subject")
    one.add_argument("--caption", default="", help="of media without a text file; with <name> in it")
    one.add_argument("--steps", type=int, default=0, help="0: what suits the model")
    one.add_argument("--rank", type=int, default=0, help="0: what suits the model")
    one.add_argument("--learning-rate", type=float, default=0.0, help="0: what suits the model")
    one.add_argument("--batch", type=int, default=0, help="0: what suits the model, and every process of several")
    one.add_argument("--still-frames", type=int, default=0, help="0: what suits the model")
    one.add_argument("--retention", type=float, default=0.01, help="how strongly it is kept apart from earlier ones")
    one.add_argument("--go-on-from", default="", help="a concept of the library, taught further as a new version")
    one.add_argument("--noise-from", type=float, default=0.0)
    one.add_argument("--noise-to", type=float, default=1.0)
    one.add_argument("--windows", choices=WINDOWS, default="first", help="what is learned of long clips")
    one.add_argument("--seed", type=int, default=0)
    add_size(one)

    command("list", "What a library has.")
    one = command("show", "What a concept's file says.")
    one.add_argument("name")

    one = command("generate", "Make a video of a prompt.")
    add_model(one)
    add_drawing(one)
    one.add_argument("--width", type=int, default=0)
    one.add_argument("--height", type=int, default=0)
    one.add_argument("--length", type=int, default=0, help="frames; 0: what suits the model")

    one = command("edit", "Change a video: inside the regions of a layout, or all of it.")
    add_model(one)
    one.add_argument("video", type=Path)
    add_drawing(one)
    one.add_argument("--denoise", type=float, default=1.0, help="below 1 keeps more of the video")
    one.add_argument("--grow", type=int, default=0, help="pixels around each region that may change too")
    add_size(one)
    return whole


def add_model(one: argparse.ArgumentParser) -> None:
    one.add_argument("--model", type=Path, required=True, help="folder of a text-to-video model")
    one.add_argument("--device", default="", help="cuda, cuda:1, cpu (default: the first GPU, if there is one)")


def add_size(one: argparse.ArgumentParser) -> None:
    one.add_argument("--area", type=int, default=0, help="pixels of a frame at most; 0: what suits the model")
    one.add_argument("--length", type=int, default=0, help="frames of a clip; 0: what suits the model")


def add_drawing(one: argparse.ArgumentParser) -> None:
    one.add_argument("--prompt", required=True)
    one.add_argument("--negative", default="")
    one.add_argument("--out", type=Path, default=Path("video.mp4"))
    one.add_argument("--steps", type=int, default=30)
    one.add_argument("--cfg", type=float, default=5.0)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--layout", type=Path, help="regions: a file with what Region Mask has in its layout")
    one.add_argument("--mode", choices=list(MODES), default=RegionSettings().mode, help="how regions are sampled")
    one.add_argument("--region-steps", type=float, default=0.6)
    one.add_argument("--contrast-steps", type=float, default=0.0)
    one.add_argument("--region-every", type=int, default=1)
    one.add_argument("--region-prompts", choices=READINGS, default="alone")
    one.add_argument("--participants", choices=PARTICIPANTS, default="named")
    one.add_argument("--adjust", action="append", default=[], help="as in Concept Library: 'rex 0.8', 'hop from 0.5'")
