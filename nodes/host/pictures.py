"""Small pictures that nodes show: loss curves, heat maps, lines of text. IMAGE tensors [1, height, width, 3]."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...ccvd_core.sheet import SheetStyle

TEXT_LINES = 24
INK, PAPER, LINE_COLOUR, GRID_COLOUR = "#e6e6e6", "#1d2026", "#4fc3f7", "#3a3f4a"
DARK = SheetStyle(PAPER, INK)
"""Sheets of pictures on nodes."""


def to_image(picture: Image.Image) -> Float[Tensor, "1 height width 3"]:
    return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255.0).unsqueeze(0)


def font(size: int = 14) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def text_picture(text: str) -> Float[Tensor, "1 height width 3"]:
    """A few lines to read where there is nothing to see."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 64) or [""]][:TEXT_LINES]
    picture = Image.new("RGB", (560, 32 + 22 * max(2, len(lines))), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((16, 16 + 22 * number), line, fill=INK, font=font(15))
    return to_image(picture)


def loss_picture(losses: Sequence[float], title: str, steps: int = 0) -> Float[Tensor, "1 height width 3"]:
    """The loss over `steps` steps (thin) and its running mean (thick)."""
    width, height, left, bottom = 640, 360, 64, 36
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((left, 8), title, fill=INK, font=font(16))
    values = np.asarray(losses, float)
    if len(values):
        low, high = float(values.min()), float(values.max())
        span = max(high - low, 1e-9)
        inner_width, inner_height = width - left - 16, height - bottom - 40

        def points(series: np.ndarray) -> list[tuple[float, float]]:
            x = left + np.arange(len(series)) / max(1, len(series) - 1) * inner_width
            y = 40 + (1 - (series - low) / span) * inner_height
            return list(zip(x.tolist(), y.tolist(), strict=True))

        for share in (0.0, 0.5, 1.0):
            y = 40 + (1 - share) * inner_height
            draw.line([(left, y), (width - 16, y)], fill=GRID_COLOUR)
            draw.text((6, y - 8), f"{low + share * span:.3f}", fill=INK, font=font(12))
        window = max(1, len(values) // 20)
        means = np.convolve(np.pad(values, (window - 1, 0), mode="edge"), np.ones(window) / window, "valid")
        draw.line(points(values), fill=GRID_COLOUR, width=1)
        draw.line(points(means), fill=LINE_COLOUR, width=3)
        draw.text((left, height - 26), "step 1", fill=INK, font=font(12))
        draw.text((width - 90, height - 26), f"step {steps or len(values)}", fill=INK, font=font(12))
    return to_image(picture)


def heat_map(
    weights: Float[Tensor, "layers concepts"], names: Sequence[str], title: str
) -> Float[Tensor, "1 height width 3"]:
    """Layers downwards, concepts across; brighter is a larger weight, the number in the cell is the weight."""
    if not names:
        return loss_picture([], "The concept library is empty")
    layers, cell_width = weights.shape[0], 92
    cell_height = max(14, min(32, 640 // layers))
    width = max(420, 80 + cell_width * len(names))
    picture = Image.new("RGB", (width, 70 + cell_height * layers), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((12, 8), title, fill=INK, font=font(16))
    for column, name in enumerate(names):
        draw.text((80 + column * cell_width, 38), f"<{name}>"[:12], fill=INK, font=font(13))
    for layer in range(layers):
        top = 62 + layer * cell_height
        draw.text((12, top), f"layer {layer}", fill=INK, font=font(12))
        for column in range(len(names)):
            share = float(weights[layer, column].clamp(0, 1))
            colour = (int(29 + 60 * share), int(32 + 163 * share), int(38 + 209 * share))
            box = (80 + column * cell_width, top, 76 + (column + 1) * cell_width, top + cell_height - 2)
            draw.rectangle(box, fill=colour)
            draw.text((box[0] + 4, top), f"{share:.2f}", fill="#000000" if share > 0.5 else INK, font=font(12))
    return to_image(picture)
