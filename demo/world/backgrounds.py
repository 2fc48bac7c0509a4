"""What is behind the actors: gradients, some with a texture of features that the VAE can carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIZE = 128
"""Width and height of a frame in pixels."""

Colour = tuple[int, int, int]
Texture = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Rows and columns -> what is added to every colour, in 0..255."""


@dataclass(frozen=True)
class Background:
    """Colours at the top and the bottom of the frame, and a texture over them."""

    top: Colour
    bottom: Colour
    texture: Texture | None = None


def _bricks(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    row = y // 16
    mortar = (y % 16 < 4) | ((x + 16 * (row % 2)) % 32 < 4)
    return np.where(mortar, 34.0, 0.0)


def _waves(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 24 * np.sin(2 * np.pi * (y + 4 * np.sin(2 * np.pi * x / 64)) / 21.3)


def _planks(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x % 21.3 < 2.5, -38.0, 7 * np.sin(2 * np.pi * x / 21.3))


def _curtain(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 26 * np.sin(2 * np.pi * x / 25.6)


def _checks(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((x // 21.34 + y // 21.34) % 2 > 0, 26.0, -26.0)


def _flakes(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    near = np.square((x + 16 * (y // 32 % 2)) % 32 - 16) + np.square(y % 32 - 16)
    return 34 * np.exp(-near / 26.0)


def _lanes(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where((np.abs(y - 64) < 4) & (x % 42.7 < 24), 90.0, 0.0)


BACKGROUNDS: dict[str, Background] = {
    "green grass": Background((126, 190, 84), (84, 148, 58)),
    "blue sky": Background((120, 190, 240), (176, 220, 250)),
    "yellow sand": Background((240, 220, 150), (222, 190, 110)),
    "dark night": Background((34, 32, 70), (20, 18, 44)),
    "pink wall": Background((244, 190, 204), (226, 158, 178)),
    "orange sunset": Background((250, 150, 70), (255, 214, 130)),
    "white snow": Background((214, 222, 232), (204, 212, 226), _flakes),
    "red bricks": Background((168, 72, 58), (150, 60, 50), _bricks),
    "blue waves": Background((46, 110, 190), (30, 84, 160), _waves),
    "brown wood": Background((176, 128, 80), (158, 112, 68), _planks),
    "purple curtain": Background((124, 62, 150), (98, 44, 124), _curtain),
    "grey road": Background((120, 122, 128), (104, 106, 112), _lanes),
    "checkered floor": Background((196, 196, 190), (180, 180, 176), _checks),
}


@cache
def background_image(name: str) -> NDArray[np.uint8]:
    """The background alone, uint8 [SIZE, SIZE, 3]."""
    background = BACKGROUNDS[name]
    rows = np.linspace(np.asarray(background.top, float), np.asarray(background.bottom, float), SIZE)
    image = np.repeat(rows[:, None], SIZE, 1)
    if background.texture is not None:
        y, x = np.mgrid[0:SIZE, 0:SIZE].astype(float)
        image = image + background.texture(y, x)[..., None]
    return image.clip(0, 255).round().astype(np.uint8)
