"""Sheets of pictures: where each picture lies, what is written below it, and that nothing else lays pictures out."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccvd_core.sheet import SheetStyle, Tile, cut, fitting, in_rows, sheet, spread, strip

ROOT = Path(__file__).parents[2]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def square(colour: tuple[int, int, int], side: int = 10) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def test_pictures_lie_in_columns_with_a_gap_around_each():
    drawn = sheet(in_rows([Tile(square(colour)) for colour in (RED, GREEN, BLUE)], 2), SheetStyle(gap=3))
    expected = np.full((3 + 2 * 13, 3 + 2 * 13, 3), 255, np.uint8)
    for (top, left), colour in {(3, 3): RED, (3, 16): GREEN, (16, 3): BLUE}.items():
        expected[top : top + 10, left : left + 10] = colour
    assert np.array_equal(np.asarray(drawn), expected)


def test_a_row_makes_room_for_its_labels_and_only_for_them():
    style = SheetStyle(gap=2, letters=11)
    drawn = np.asarray(sheet([[Tile(square(RED, 40), "rex")], [Tile(square(BLUE, 40))]], style))
    assert drawn.shape == (3 * 2 + 2 * 40 + style.line_height, 44, 3)
    label = drawn[42 : 42 + style.line_height]
    assert (label < 128).any() and (drawn[-42:-2, 2:-2] == BLUE).all()


def test_pictures_of_different_sizes_keep_to_their_columns():
    drawn = np.asarray(sheet([[Tile(square(RED, 4)), Tile(square(GREEN, 12))]], SheetStyle(gap=1)))
    assert drawn.shape == (14, 1 + 2 * 13, 3)
    assert (drawn[1:5, 1:5] == RED).all() and (drawn[1:13, 14:26] == GREEN).all()
    assert np.asarray(sheet([[Tile(square(RED, 4))]], SheetStyle(gap=1), cell=(20, 30))).shape == (32, 22, 3)


def test_a_footer_is_never_cut_off():
    footer, style = "the last 64 of 1000 pictures", SheetStyle(gap=1)
    drawn = np.asarray(sheet([[Tile(square(RED))]], style, footer=footer))
    assert drawn.shape[0] == 12 + style.line_height and drawn.shape[1] >= style.font().getlength(footer)
    assert (drawn[12:] < 128).any()


def test_labels_are_broken_at_spaces_and_end_with_their_lines():
    font = SheetStyle().font()
    width = round(font.getlength("a <rex> moving"))
    assert fitting("a <rex> moving left on green grass", width, 2, font) == ["a <rex> moving", "left on green"]
    assert fitting("", width, 2, font) == []
    assert font.getlength(cut("extraordinarily", 30, font)) <= 30
    assert cut("rex", 100, font) == "rex"


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(9, 3, [0, 4, 8]), (2, 5, [0, 1]), (1, 3, [0]), (7, 1, [0]), (4, 4, [0, 1, 2, 3])]
)
def test_moments_are_spread_from_the_first_to_the_last(count: int, wanted: int, expected: list[int]):
    assert spread(count, wanted) == expected


def test_a_strip_has_no_frame():
    assert np.array_equal(np.asarray(strip([square(RED)])), np.asarray(square(RED)))
    both = np.asarray(strip([square(RED), square(BLUE)], gap=2))
    assert both.shape == (10, 22, 3) and (both[:, :10] == RED).all() and (both[:, 12:] == BLUE).all()


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="at least one picture"):
        sheet([])
    with pytest.raises(ValueError, match="got -1, 13 and 1"):
        SheetStyle(gap=-1)


SCENES = {"demo/world/scenes.py", "nodes/host/region_pictures.py"}
"""These paste sprites into a scene, or the outlines of regions into a frame, over each other."""


def test_there_is_one_drawer():
    """What lays several pictures side by side pastes them in a loop."""
    found = set()
    for folder in ("ccvd_core", "nodes", "scripts", "demo", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(loop, ast.For | ast.While | ast.ListComp | ast.GeneratorExp):
                    calls = [node.func for node in ast.walk(loop) if isinstance(node, ast.Call)]
                    if any(isinstance(call, ast.Attribute) and call.attr == "paste" for call in calls):
                        found.add(path.relative_to(ROOT).as_posix())
    assert found - SCENES == {"ccvd_core/sheet.py"}
