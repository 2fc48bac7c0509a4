"""Region layouts: which concept or prompt goes where, and when (DESIGN 4). JSON in, frozen dataclasses out.

`js/region_layout.js` is the same in the browser; both are tested on tests/data/region_layout_cases.json.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import CCVDError, shorten
from .region import MAX_REGIONS, MAX_SIDE, MAX_STRENGTH, Keyframe, Region

VERSION = 1
MAX_TEXT = 2_000_000
"""Characters of JSON as browsers count them, in units of UTF-16: hundreds of regions fit, a 50 MB accident does not."""
MAX_KEYFRAMES = 1000
MAX_DEPTH = 100
"""Brackets within brackets: a layout has six. How many a JSON reader bears depends on the reader."""
SPACES = " \t\n\r"
"""What JSON takes for white space; Python and browsers each strip other characters too."""
NESTING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
"""A string, also one that does not end, or one bracket."""
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class RegionLayoutError(CCVDError):
    """A region layout cannot be used; the message says where and why."""


@dataclass(frozen=True)
class RegionLayout:
    """Regions over a frame of width x height pixels; where they overlap, the later one is in front."""

    width: int
    height: int
    regions: tuple[Region, ...] = ()


def parse_layout(text: str) -> RegionLayout:
    """Read a layout from JSON; an empty text is an empty layout. Raises RegionLayoutError."""
    length = len(text) + sum(letter > "\uffff" for letter in text) if len(text) <= MAX_TEXT else len(text)
    if length > MAX_TEXT:
        refuse("the layout", f"at most {MAX_TEXT} characters", f"{length}")
    if text.strip(SPACES) in ("", "{}"):
        return RegionLayout(512, 512)
    if depth(text) > MAX_DEPTH:
        refuse("the layout", f"at most {MAX_DEPTH} brackets within brackets", "more")
    try:
        # All numbers as floats, as in a browser: an integer of thousands of digits is then infinite, not an error.
        value = json.loads(text, parse_int=float, parse_constant=not_a_number)
    except RegionLayoutError:
        raise
    except ValueError as error:
        raise RegionLayoutError(
            f"The region layout is damaged ({error}). Clear the regions in the editor and draw them again."
        ) from error
    return layout_from(value)


def not_a_number(name: str) -> NoReturn:
    refuse("a number", "a finite number", name)


def depth(text: str) -> int:
    """How many brackets stand within each other in JSON text."""
    deepest = current = 0
    for match in NESTING.finditer(text):
        bracket = match[0][0]
        if bracket in "[{":
            current += 1
            deepest = max(deepest, current)
        elif bracket in "]}":
            current -= 1
    return deepest


def layout_from(value: Any) -> RegionLayout:
    """A layout from parsed JSON. Raises RegionLayoutError naming the part that is wrong."""
    layout = table(value, "the layout")
    version = layout.get("version")
    if version != VERSION or isinstance(version, bool):
        refuse("version", f"{VERSION}", f"{written(version)}; a newer pack may have written it: update this one")
    regions = items(layout.get("regions", []), "regions", MAX_REGIONS)
    return RegionLayout(
        side(layout.get("width"), "width"),
        side(layout.get("height"), "height"),
        tuple(region_from(region, f"region {number}") for number, region in enumerate(regions, 1)),
    )


def region_from(value: Any, where: str) -> Region:
    region = table(value, where)
    color = text_of(region.get("color", "#4fc3f7"), f"{where}: color")
    if not COLOUR.fullmatch(color):
        refuse(f"{where}: color", "#rrggbb", repr(color[:20]))
    keyframes = [
        keyframe_from(keyframe, f"{where}: keyframe {number}")
        for number, keyframe in enumerate(items(region.get("keyframes"), f"{where}: keyframes", MAX_KEYFRAMES), 1)
    ]
    if not keyframes:
        refuse(f"{where}: keyframes", "at least one", "none")
    times = [keyframe.t for keyframe in keyframes]
    if len(set(times)) != len(times):
        refuse(f"{where}: keyframes", "different times", "two at the same time")
    return Region(
        text_of(region.get("name", ""), f"{where}: name"),
        text_of(region.get("prompt", ""), f"{where}: prompt"),
        color,
        number_in(region.get("strength", 1.0), f"{where}: strength", 0.0, MAX_STRENGTH),
        tuple(sorted(keyframes, key=lambda keyframe: keyframe.t)),
        yes_or_no(region.get("locked", False), f"{where}: locked"),
    )


def keyframe_from(value: Any, where: str) -> Keyframe:
    keyframe = table(value, where)
    box = items(keyframe.get("box"), f"{where}: box", 4)
    if len(box) != 4:
        refuse(f"{where}: box", "[x, y, width, height]", f"{len(box)} numbers")
    x, y = (number_in(box[index], f"{where}: box", -1.0, 1.0) for index in (0, 1))
    width, height = (number_in(box[index], f"{where}: box", 0.0, 2.0) for index in (2, 3))
    if width == 0 or height == 0:
        refuse(f"{where}: box", "a width and height above 0", f"{width} x {height}")
    return Keyframe(number_in(keyframe.get("t"), f"{where}: t", 0.0, 1.0), (x, y, width, height))


def refuse(where: str, expected: str, got: str) -> NoReturn:
    raise RegionLayoutError(f"The region layout cannot be used. {where}: expected {expected}; got {got}.")


def table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        refuse(where, "a table of names and values", type(value).__name__)
    return value


def items(value: Any, where: str, most: int) -> Sequence[Any]:
    if not isinstance(value, list):
        refuse(where, "a list", type(value).__name__)
    if len(value) > most:
        refuse(where, f"at most {most}", f"{len(value)}")
    return value


def text_of(value: Any, where: str) -> str:
    if not isinstance(value, str):
        refuse(where, "a text", type(value).__name__)
    return value


def yes_or_no(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        refuse(where, "true or false", type(value).__name__)
    return value


def written(value: Any) -> str:
    """A value for a message; whole numbers without a point."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return shorten(int(value) if whole else value, 40)


def number_in(value: Any, where: str, low: float, high: float) -> float:
    infinite = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or infinite:
        refuse(where, "a finite number", written(value))
    if not low <= value <= high:
        refuse(where, f"a number between {low:g} and {high:g}", written(value))
    return float(value)


def side(value: Any, where: str) -> int:
    number = number_in(value, where, 1, MAX_SIDE)
    if number != int(number):
        refuse(where, "a whole number of pixels", f"{number:g}")
    return int(number)
