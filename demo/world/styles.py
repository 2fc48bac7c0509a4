"""Styles recolour or redraw whole clips; each is a function on colours in 0..1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.uint8]
Colours = NDArray[np.floating]
"""[..., height, width, 3] in 0..1."""

LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)


def light(clip: Colours) -> Colours:
    """Luminance [..., height, width, 1]."""
    return (clip @ LUMA)[..., None]


def two_tones(dark: tuple[int, int, int], bright: tuple[int, int, int]) -> Callable[[Colours], Colours]:
    """Luminance mapped onto the line between two colours (0..255)."""
    low, high = (np.asarray(colour, np.float32) / 255 for colour in (dark, bright))
    return lambda clip: low + (high - low) * light(clip)


def soft(clip: Colours) -> Colours:
    """Blurred by about a pixel, so that lines drawn along edges are wide enough for the VAE."""
    for axis in (-3, -2):
        clip = 0.5 * clip + 0.25 * (np.roll(clip, 1, axis) + np.roll(clip, -1, axis))
    return clip


def edges(clip: Colours) -> Colours:
    """Strength of the strongest colour edge at each pixel, [..., height, width, 1]."""
    clip = soft(clip)
    padded = np.pad(clip, [(0, 0)] * (clip.ndim - 3) + [(1, 1), (1, 1), (0, 0)], mode="edge")
    across = padded[..., 1:-1, 2:, :] - padded[..., 1:-1, :-2, :]
    down = padded[..., 2:, 1:-1, :] - padded[..., :-2, 1:-1, :]
    return np.sqrt(np.square(across) + np.square(down)).max(-1, keepdims=True)


def poster(clip: Colours) -> Colours:
    return (np.floor(clip.clip(0, 0.999) * 3) + 0.5) / 3


def pixel(clip: Colours) -> Colours:
    """Cells of 4 x 4 pixels."""
    *lead, height, width, _ = clip.shape
    cells = clip.reshape(*lead, height // 4, 4, width // 4, 4, 3).mean((-4, -2))
    return cells.repeat(4, -3).repeat(4, -2)


def sketch(clip: Colours) -> Colours:
    return (0.95 - 1.6 * soft(edges(clip))).clip(0.1, 1) * np.asarray([1.0, 0.98, 0.93], np.float32)


def neon(clip: Colours) -> Colours:
    glow = (2.0 * soft(edges(clip))).clip(0, 1)
    return np.asarray([0.05, 0.03, 0.12], np.float32) + glow * (0.25 + 0.7 * clip)


def vivid(clip: Colours) -> Colours:
    grey = light(clip)
    return grey + 1.8 * (clip - grey)


def pastel(clip: Colours) -> Colours:
    return 0.55 + 0.45 * clip


def faded(clip: Colours) -> Colours:
    return np.asarray([0.36, 0.26, 0.18], np.float32) + 0.5 * clip


def grey(clip: Colours) -> Colours:
    return light(clip).repeat(3, -1)


def noir(clip: Colours) -> Colours:
    return ((light(clip) - 0.5) * 1.6 + 0.5).clip(0, 1).repeat(3, -1)


def comic(clip: Colours) -> Colours:
    return poster(vivid(clip)) * (1 - 1.5 * edges(clip)).clip(0.1, 1)


Style = Callable[[Colours], Colours]
STYLES: dict[str, Style] = {
    "plain": lambda clip: clip,
    "sepia": two_tones((44, 26, 12), (250, 232, 200)),
    "emerald": two_tones((6, 44, 28), (212, 248, 214)),
    "grey": grey,
    "pastel": pastel,
    "faded": faded,
    "vivid": vivid,
    "poster": poster,
    "pixel": pixel,
    "sketch": sketch,
    "neon": neon,
}
"""The styles of the base."""

HELD_OUT_STYLES: dict[str, Style] = {
    "noir": noir,
    "blueprint": two_tones((10, 30, 110), (190, 220, 255)),
    "negative": lambda clip: 1 - clip,
    "lavender": two_tones((52, 20, 80), (236, 214, 255)),
    "comic": comic,
}
"""Noir is a relative of grey, blueprint and lavender of sepia and emerald, comic of poster and sketch."""


def apply_style(clip: Clip, style: str) -> Clip:
    """A clip [..., height, width, 3] in a style. Raises ValueError for an unknown one."""
    if style == "plain":
        return clip
    function = STYLES.get(style) or HELD_OUT_STYLES.get(style)
    if function is None:
        raise ValueError(f"unknown style {style!r}: expected one of {', '.join((*STYLES, *HELD_OUT_STYLES))}")
    drawn = function(clip.astype(np.float32) / 255)
    return (drawn.clip(0, 1) * 255).round().astype(np.uint8)
