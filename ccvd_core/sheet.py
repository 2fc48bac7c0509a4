"""A sheet of pictures to look at: the only place that lays pictures out side by side.

Pillow alone is needed, so that nodes, scripts, the demo and benchmarks can all draw theirs with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class Tile:
    """A picture and what is written below it."""

    picture: Image.Image
    label: str = ""


@dataclass(frozen=True)
class SheetStyle:
    """Colours, and in pixels: the gap between and around pictures, the size of letters."""

    paper: str = "white"
    ink: str = "black"
    gap: int = 4
    letters: int = 13
    lines: int = 1
    """Of a label at most; what does not fit is left out."""

    def __post_init__(self) -> None:
        if self.gap < 0 or self.letters < 1 or self.lines < 1:
            raise ValueError(
                "a sheet takes a gap of 0 pixels or more, letters of 1 and labels of 1 line; got "
                f"{self.gap}, {self.letters} and {self.lines}"
            )

    def font(self) -> Font:
        return ImageFont.load_default(self.letters)

    @property
    def line_height(self) -> int:
        return self.letters + 5


PLAIN = SheetStyle()


def sheet(
    rows: Sequence[Sequence[Tile]], style: SheetStyle = PLAIN, cell: tuple[int, int] = (0, 0), footer: str = ""
) -> Image.Image:
    """Rows of pictures in columns of one width, each over its label; `footer` stands below all of them.

    A column is as wide as the widest picture, a row as high as its highest, and both no smaller than `cell`.
    """
    tiles = [tile for row in rows for tile in row]
    if not tiles:
        raise ValueError("a sheet needs at least one picture; got none")
    font, gap = style.font(), style.gap
    width = max(cell[0], *(tile.picture.width for tile in tiles))
    labels = [[fitting(tile.label, width, style.lines, font) for tile in row] for row in rows]
    heights = [max(cell[1], *(tile.picture.height for tile in row)) for row in rows]
    label_heights = [style.line_height * max(len(lines) for lines in row) for row in labels]
    across = gap + max(len(row) for row in rows) * (width + gap)
    if footer:
        across = max(across, 2 * gap + round(font.getlength(footer)))
    down = gap + sum(heights) + sum(label_heights) + gap * len(rows) + (style.line_height if footer else 0)
    paper = Image.new("RGB", (across, down), style.paper)
    draw, top = ImageDraw.Draw(paper), gap
    for row, texts, height, below in zip(rows, labels, heights, label_heights, strict=True):
        for column, (tile, lines) in enumerate(zip(row, texts, strict=True)):
            left = gap + column * (width + gap)
            paper.paste(tile.picture, (left, top))
            for number, line in enumerate(lines):
                draw.text((left, top + height + 1 + number * style.line_height), line, fill=style.ink, font=font)
        top += height + below + gap
    draw.text((gap, top), footer, fill=style.ink, font=font)
    return paper


def in_rows(tiles: Sequence[Tile], columns: int) -> list[Sequence[Tile]]:
    """Tiles in rows of `columns`, the last one perhaps shorter."""
    return [tiles[start : start + columns] for start in range(0, len(tiles), columns)]


def strip(pictures: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Pictures side by side, without a frame around them."""
    laid = sheet([[Tile(picture) for picture in pictures]], SheetStyle(gap=gap))
    return laid.crop((gap, gap, laid.width - gap, laid.height - gap))


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 .. count - 1, spread evenly from the first to the last."""
    if count < 1 or wanted < 1:
        raise ValueError(f"expected at least one frame to choose from and one to choose; got {count} and {wanted}")
    shown = min(count, wanted)
    return [round(number * (count - 1) / max(1, shown - 1)) for number in range(shown)]


def fitting(text: str, width: int, lines: int, font: Font) -> list[str]:
    """A label broken at spaces into at most so many lines of `width` pixels; the rest, and ends of long words, go."""
    broken: list[str] = []
    for word in text.split():
        joined = f"{broken[-1]} {word}" if broken else word
        if broken and font.getlength(joined) <= width:
            broken[-1] = joined
        elif len(broken) == lines:
            break
        else:
            broken.append(word)
    return [cut(line, width, font) for line in broken]


def cut(line: str, width: int, font: Font) -> str:
    while line and font.getlength(line) > width:
        line = line[:-1]
    return line
