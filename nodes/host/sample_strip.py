"""Sample prompts through the steps of a lesson, as one picture: a row for each prompt, a column for each time."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image

from ...ccvd_core.errors import CCVDError, shorten
from ...ccvd_core.prompts.mentions import named_concepts
from ...ccvd_core.sheet import SheetStyle, Tile, sheet, spread

MOST_PROMPTS, MOST_COLUMNS = 2, 8
CELL = 192
"""Pixels, the longer side."""
STYLE = SheetStyle(lines=2)


def sample_lines(text: str, name: str) -> tuple[str, ...]:
    """The prompts that an artist wrote, one a line.

    Raises CCVDError for more than are drawn, and for one without the concept `name`, which never changes.
    """
    lines = tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(lines) > MOST_PROMPTS:
        raise CCVDError(
            f"At most {MOST_PROMPTS} sample prompts are drawn while learning, one a line; got {len(lines)} lines. "
            "Take some away: each costs as much as a preview, every time."
        )
    for line in lines:
        if name not in named_concepts(line):
            raise CCVDError(
                f"The sample prompt {shorten(line)} does not name the concept: write <{name}> in it, or leave it out. "
                "Without the name it shows what the base model makes, at every step."
            )
    return lines


class SampleStrip:
    """What has been drawn so far, in small."""

    def __init__(self) -> None:
        self._columns: list[tuple[int, dict[str, Image.Image]]] = []

    def __bool__(self) -> bool:
        return bool(self._columns)

    def add(self, step: int, pictures: Mapping[str, Image.Image]) -> None:
        """The pictures of one time, by prompt; the same prompts every time."""
        small = {prompt: picture.copy() for prompt, picture in pictures.items()}
        for picture in small.values():
            picture.thumbnail((CELL, CELL))
        self._columns.append((step, small))

    def picture(self) -> Image.Image:
        """All of it, or so many columns as fit, spread from the first time to the last."""
        columns = [self._columns[number] for number in spread(len(self._columns), MOST_COLUMNS)]
        prompts = list(columns[0][1])
        return sheet([[Tile(small[text], f"{step}: {text}") for step, small in columns] for text in prompts], STYLE)
