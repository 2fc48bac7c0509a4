"""Who can be in a scene: classes with several drawings each, varied as members of a kind vary."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SPRITES = Path(__file__).parents[1] / "sprites"
SETS = ("noto", "twemoji", "fluent")
"""Emoji sets: each draws the same thing in its own way."""

CLASSES: dict[str, tuple[str, ...]] = {
    "dog": ("1f436", "1f415", "1f429"),
    "cat": ("1f431", "1f408", "1f408-200d-2b1b"),
    "bear": ("1f43b", "1f43b-200d-2744-fe0f"),
    "panda": ("1f43c",),
    "pig": ("1f437", "1f416"),
    "frog": ("1f438",),
    "rabbit": ("1f430", "1f407"),
    "mouse": ("1f42d",),
    "cow": ("1f42e",),
    "horse": ("1f434",),
    "monkey": ("1f435",),
    "bird": ("1f426", "1f985", "1f54a-fe0f"),
    "fish": ("1f41f", "1f420"),
    "whale": ("1f433", "1f40b"),
    "turtle": ("1f422",),
    "butterfly": ("1f98b",),
    "bee": ("1f41d",),
    "snail": ("1f40c",),
    "car": ("1f697", "1f699"),
    "bus": ("1f68c", "1f68e"),
    "truck": ("1f69a", "1f69b"),
    "train": ("1f682",),
    "rocket": ("1f680",),
    "ball": ("26bd", "26be", "1f3d0"),
    "apple": ("1f34e", "1f34f"),
    "banana": ("1f34c",),
    "tree": ("1f333", "1f332"),
    "flower": ("1f33b", "1f33c", "1f337"),
    "mushroom": ("1f344",),
    "star": ("2b50", "1f31f"),
    "heart": ("2764-fe0f", "1f499"),
    "hat": ("1f452", "1f9e2"),
    "cake": ("1f382",),
    "robot": ("1f916",),
}
"""Class word -> the code points of its members; every set draws each of them, so a class has three to nine members."""

HELD_OUT: dict[str, tuple[str, str]] = {
    "fox": ("1f98a", "dog"),
    "wolf": ("1f43a", "dog"),
    "raccoon": ("1f99d", "dog"),
    "taxi": ("1f695", "car"),
    "basketball": ("1f3c0", "ball"),
    "orange": ("1f34a", "ball"),
    "leopard": ("1f406", "cat"),
    "tiger": ("1f405", "cat"),
    "gorilla": ("1f98d", "monkey"),
    "rooster": ("1f413", "bird"),
    "flamingo": ("1f9a9", "bird"),
    "swan": ("1f9a2", "bird"),
    "blowfish": ("1f421", "fish"),
    "police": ("1f693", "car"),
    "racer": ("1f3ce-fe0f", "car"),
    "van": ("1f690", "bus"),
    "pickup": ("1f6fb", "truck"),
    "pear": ("1f350", "apple"),
    "tophat": ("1f3a9", "hat"),
    "cupcake": ("1f9c1", "cake"),
}
"""Held-out subject -> (code point, its class word). They are drawn by the first set. Look-alikes: wolf and raccoon,
leopard and tiger, basketball and orange, taxi and police."""

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "grey", "black")


@dataclass(frozen=True)
class Look:
    """How one member is varied, within what still is that member: hue in turns, the others as factors."""

    mirrored: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    value: float = 1.0
    aspect: float = 1.0


PLAIN_LOOK = Look()


@dataclass(frozen=True)
class Subject:
    """One sprite: its class word, the file that draws it, and its look."""

    word: str
    file: str
    look: Look = field(default=PLAIN_LOOK)

    def sprite(self) -> Image.Image:
        """64 x 64 RGBA, in this look."""
        return varied(self.file, self.look)

    def colour(self) -> str | None:
        """The colour that more than half of the sprite has, or None."""
        return main_colour(np.asarray(self.sprite()))


def members(word: str) -> tuple[Subject, ...]:
    """Every member of a class of the base."""
    return tuple(Subject(word, f"members/{name}_{point}") for point in CLASSES[word] for name in SETS)


def held_out_subject(name: str) -> Subject:
    """A subject that the base has never seen, under its own name."""
    return Subject(name, f"held_out/{name}")


def random_member(rng: np.random.Generator, word: str) -> Subject:
    """A random member of a class in a random look."""
    every = members(word)
    look = Look(
        mirrored=bool(rng.random() < 0.5),
        hue=round(float(rng.uniform(-0.03, 0.03)), 3),
        saturation=round(float(rng.uniform(0.85, 1.15)), 2),
        value=round(float(rng.uniform(0.9, 1.08)), 2),
        aspect=round(float(rng.uniform(0.9, 1.1)), 2),
    )
    return Subject(word, every[int(rng.integers(len(every)))].file, look)


@cache
def load_sprite(file: str) -> Image.Image:
    """The 64 x 64 RGBA picture of a file below `sprites/`, without its ending."""
    with Image.open(SPRITES / f"{file}.png") as image:
        return image.convert("RGBA")


def varied(file: str, look: Look) -> Image.Image:
    """A sprite in a look; the proportions (`aspect`) are the camera's business, see `scenes.place`."""
    sprite = load_sprite(file)
    if look.mirrored:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if (look.hue, look.saturation, look.value) == (0.0, 1.0, 1.0):
        return sprite
    alpha = sprite.getchannel("A")
    hue, saturation, value = sprite.convert("RGB").convert("HSV").split()
    shift = round(look.hue * 256)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    saturation = saturation.point([min(255, round(level * look.saturation)) for level in range(256)])
    value = value.point([min(255, round(level * look.value)) for level in range(256)])
    sprite = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    sprite.putalpha(alpha)
    return sprite


def main_colour(sprite: NDArray[np.uint8]) -> str | None:
    """The colour word of more than half of the opaque pixels of [height, width, 4], or None."""
    opaque = sprite[sprite[..., 3] > 127][:, :3]
    if not len(opaque):
        return None
    words, counts = np.unique([_colour_of(*pixel) for pixel in _coarse(opaque)], return_counts=True)
    best = int(counts.argmax())
    return str(words[best]) if counts[best] > 0.5 * counts.sum() else None


def _coarse(pixels: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    return [(int(r), int(g), int(b)) for r, g, b in pixels[:: max(1, len(pixels) // 400)]]


@cache
def _colour_of(red: int, green: int, blue: int) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.25:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.8 else "grey"
    degrees = hue * 360
    if degrees < 30 or degrees >= 330:
        if saturation < 0.55 and value > 0.8:
            return "pink"
        if (degrees < 14 or degrees >= 340) and saturation > 0.7 and value > 0.6:
            return "red"
    if degrees < 45 or degrees >= 340:
        return "orange" if value > 0.8 and saturation > 0.6 else "brown"
    names = ((68, "yellow"), (165, "green"), (255, "blue"), (295, "purple"))
    return next((name for limit, name in names if degrees < limit), "pink")
