"""The procedural world that the demo base is trained on: sprites that move over plain backgrounds, with captions.

A `Scene` is a description; `Scene.caption()` is what the text encoder reads and `Scene.render()` is what the camera
sees. Subjects, motions and styles marked *held out* never appear in the training of the base (text encoder and video
model): they are what an artist teaches it later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 128
"""Width and height of a frame in pixels."""
FRAMES = 9
"""Frames of a clip: 1 + 4k, as the Wan VAE wants; three latent frames."""
FPS = 8

SPRITE_FOLDER = Path(__file__).parent / "sprites"

BASE_SUBJECTS = (
    "dog", "cat", "frog", "pig", "panda", "car", "apple", "ball", "flower", "mushroom", "fish", "star",
)  # fmt: skip
HELD_OUT_SUBJECTS = {
    "fox": "dog",
    "taxi": "car",
    "basketball": "ball",
    "orange": "ball",
    "wolf": "dog",
    "raccoon": "dog",
}
"""Held-out subject -> its class word, the related base subject. basketball/orange and wolf/raccoon look alike."""

BASE_MOTIONS = ("still", "moving left", "moving right", "moving up", "moving down")
HELD_OUT_MOTIONS = {"hopping": "moving up", "diagonal": "moving right", "zigzag": "moving left"}
"""Held-out motion -> its class words, the related base motion."""

BACKGROUNDS = {
    "green grass": ((126, 190, 84), (84, 148, 58)),
    "blue sky": ((120, 190, 240), (176, 220, 250)),
    "yellow sand": ((240, 220, 150), (222, 190, 110)),
    "dark night": ((34, 32, 70), (20, 18, 44)),
    "pink wall": ((244, 190, 204), (226, 158, 178)),
}
"""Background -> colour at the top and at the bottom of the frame (sRGB); a vertical gradient in between."""

BASE_STYLES = ("plain",)
HELD_OUT_STYLES = ("noir", "blueprint", "negative")

SUBJECTS = (*BASE_SUBJECTS, *HELD_OUT_SUBJECTS)
MOTIONS = (*BASE_MOTIONS, *HELD_OUT_MOTIONS)
STYLES = (*BASE_STYLES, *HELD_OUT_STYLES)

Frames = NDArray[np.uint8]
Style = Literal["plain", "noir", "blueprint", "negative"]


@dataclass(frozen=True)
class Actor:
    """One sprite: who it is, how it moves, how large it is (pixels) and where it starts (centre, pixels)."""

    subject: str
    motion: str
    size: float
    start: tuple[float, float]
    travel: float = 30.0

    def path(self, frames: int = FRAMES) -> NDArray[np.float64]:
        """Centre of the sprite per frame, shape [frames, 2] (x, y), in pixels."""
        return np.asarray(self.start) + self.travel * motion_path(self.motion, frames)


@dataclass(frozen=True)
class Scene:
    """One clip: actors over a background, drawn in a style."""

    actors: tuple[Actor, ...]
    background: str
    style: str = "plain"
    names_style: bool = field(default=False, compare=False)

    def caption(self) -> str:
        """The sentence that describes the scene, for example `a dog moving right on green grass`."""
        who = " and ".join(f"a {actor.subject} {actor.motion}" for actor in self.actors)
        style = f" in {self.style} style" if self.names_style else ""
        return f"{who} on {self.background}{style}"

    def render(self, frames: int = FRAMES) -> Frames:
        """Draw the clip: uint8 [frames, SIZE, SIZE, 3]."""
        clip = np.empty((frames, SIZE, SIZE, 3), np.uint8)
        paths = [actor.path(frames) for actor in self.actors]
        for index in range(frames):
            image = Image.fromarray(background_image(self.background))
            for actor, path in zip(self.actors, paths, strict=True):
                sprite = place(load_sprite(actor.subject), actor.size, path[index])
                image.paste(sprite, (0, 0), sprite)
            clip[index] = np.asarray(image)
        return apply_style(clip, self.style)


def motion_path(motion: str, frames: int) -> NDArray[np.float64]:
    """Displacement per frame in units of the actor's travel, [frames, 2] (x, y), y pointing down, zero at frame 0."""
    t = np.linspace(0.0, 1.0, frames)
    zero = np.zeros_like(t)
    x, y = {
        "still": (zero, zero),
        "moving left": (-t, zero),
        "moving right": (t, zero),
        "moving up": (zero, -t),
        "moving down": (zero, t),
        "hopping": (zero, -4 * t * (1 - t)),
        "diagonal": (t, t),
        "zigzag": (np.sin(2 * np.pi * t), zero),
    }[motion]
    return np.stack([x, y], -1)


def apply_style(clip: Frames, style: str) -> Frames:
    """Recolour whole frames: `noir` is high-contrast grey, `blueprint` maps light to blue, `negative` inverts."""
    if style == "plain":
        return clip
    if style == "negative":
        return 255 - clip
    light = (clip @ np.asarray([0.299, 0.587, 0.114])) / 255.0
    if style == "noir":
        contrast = np.clip((light - 0.5) * 1.6 + 0.5, 0, 1)[..., None]
        return (np.repeat(contrast, 3, -1) * 255).astype(np.uint8)
    if style == "blueprint":
        dark, bright = np.asarray([10.0, 30.0, 110.0]), np.asarray([190.0, 220.0, 255.0])
        return (dark + (bright - dark) * light[..., None]).astype(np.uint8)
    raise ValueError(f"unknown style {style!r}: expected one of {STYLES}")


@cache
def load_sprite(subject: str) -> Image.Image:
    """The 64 x 64 RGBA sprite of a subject, or of `texture/<name>`."""
    with Image.open(SPRITE_FOLDER / f"{subject}.png") as image:
        return image.convert("RGBA")


@cache
def background_image(background: str) -> Frames:
    """The background alone, uint8 [SIZE, SIZE, 3]."""
    top, bottom = BACKGROUNDS[background]
    rows = np.linspace(np.asarray(top, float), np.asarray(bottom, float), SIZE)
    return np.repeat(rows[:, None], SIZE, 1).round().astype(np.uint8)


def place(sprite: Image.Image, size: float, centre: NDArray[np.float64], canvas: int = SIZE) -> Image.Image:
    """`sprite` scaled to `size` pixels on a transparent canvas, its centre at a sub-pixel position."""
    scale = sprite.width / size
    left, top = centre[0] - size / 2, centre[1] - size / 2
    matrix = (scale, 0.0, -left * scale, 0.0, scale, -top * scale)
    return sprite.transform((canvas, canvas), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


SIZES = {1: (52.0, 64.0), 2: (46.0, 56.0), 3: (40.0, 48.0), 4: (40.0, 46.0)}
"""Sprite size in pixels (lowest, highest) by the number of actors in the scene."""


def random_scene(
    rng: np.random.Generator,
    actors: int = 1,
    subjects: tuple[str, ...] = BASE_SUBJECTS,
    motions: tuple[str, ...] = BASE_MOTIONS,
    styles: tuple[str, ...] = BASE_STYLES,
    background: str | None = None,
) -> Scene:
    """A random scene of different subjects that stay inside the frame and do not run into each other."""
    names = rng.choice(subjects, actors, replace=False)
    while True:
        cast = tuple(random_actor(rng, str(name), str(rng.choice(motions)), SIZES[actors]) for name in names)
        if not collide(cast):
            break
    return Scene(
        cast,
        background or str(rng.choice(list(BACKGROUNDS))),
        str(rng.choice(styles)),
        names_style=bool(rng.random() < 0.3),
    )


def random_actor(rng: np.random.Generator, subject: str, motion: str, sizes: tuple[float, float] = SIZES[1]) -> Actor:
    """An actor of random size and speed that stays inside the frame during the whole clip."""
    size, travel = float(rng.uniform(*sizes)), float(rng.uniform(26.0, 36.0))
    shift = travel * motion_path(motion, FRAMES)
    low = size / 2 - shift.min(0)
    high = SIZE - size / 2 - shift.max(0)
    low, high = np.minimum(low, high), np.maximum(low, high)
    x, y = rng.uniform(low, high)
    return Actor(subject, motion, size, (float(x), float(y)), travel)


def collide(actors: tuple[Actor, ...]) -> bool:
    """True when two sprites come closer than about 85 % of their size at any frame."""
    for index, one in enumerate(actors):
        for other in actors[index + 1 :]:
            gap = np.abs(one.path() - other.path()).max(-1).min()
            if gap < 0.425 * (one.size + other.size):
                return True
    return False
