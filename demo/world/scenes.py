"""Scenes: actors over a background in a style, with the sentence that describes them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .backgrounds import BACKGROUNDS, SIZE, background_image
from .motions import MOTIONS, SPEEDS, course, motion_named
from .styles import STYLES, apply_style
from .subjects import CLASSES, Subject, random_member

FRAMES = 9
"""Frames of a clip: 1 + 4k, as the Wan VAE wants; three latent frames."""
FPS = 8

SIZES = {1: (48.0, 66.0), 2: (42.0, 56.0), 3: (36.0, 48.0), 4: (34.0, 46.0)}
"""Sprite size in pixels (lowest, highest) by the number of actors in the scene."""
GROWTH_ROOM = 84.0
"""No sprite becomes larger than this, in pixels."""


@dataclass(frozen=True)
class Actor:
    """One sprite: who, how it moves and how much, how large it is (pixels), where it starts (centre, pixels)."""

    subject: Subject
    motion: str
    size: float
    start: tuple[float, float]
    amount: float = 30.0
    speed: str = ""
    words: tuple[str, ...] = ()
    """Describing words before the class word, true ones."""

    def placed(self, frames: int = FRAMES) -> NDArray[np.float64]:
        """Per frame: centre x, centre y, size, turn in degrees; shape [frames, 4]."""
        x, y, scale, turn = course(self.motion, self.amount, frames)
        return np.stack([self.start[0] + x, self.start[1] + y, self.size * scale, turn], -1)

    def caption(self) -> str:
        """For example `a small red car moving left quickly`."""
        return " ".join(word for word in ("a", *self.words, self.subject.word, self.motion, self.speed) if word)


@dataclass(frozen=True)
class Scene:
    """One clip: actors over a background, drawn in a style. A style other than plain is always named."""

    actors: tuple[Actor, ...]
    background: str
    style: str = "plain"
    names_style: bool = field(default=False, compare=False)

    def caption(self) -> str:
        """The sentence that describes the scene, for example `a dog moving right on green grass in sepia style`."""
        who = " and ".join(actor.caption() for actor in self.actors)
        style = f" in {self.style} style" if self.names_style or self.style != "plain" else ""
        return f"{who} on {self.background}{style}"

    def render(self, frames: int = FRAMES) -> NDArray[np.uint8]:
        """Draw the clip: uint8 [frames, SIZE, SIZE, 3]."""
        clip = draw(self.actors, background_image(self.background), frames)
        return apply_style(clip, self.style)


def draw(actors: Sequence[Actor], behind: NDArray[np.uint8], frames: int = FRAMES) -> NDArray[np.uint8]:
    """Actors over a picture [height, width, 3] that does not move: uint8 [frames, height, width, 3]."""
    clip = np.empty((frames, *behind.shape), np.uint8)
    placed = [(actor.subject.sprite(), actor.subject.look.aspect, actor.placed(frames)) for actor in actors]
    for index in range(frames):
        image = Image.fromarray(behind)
        for sprite, aspect, path in placed:
            drawn = place(sprite, path[index], aspect, behind.shape[1])
            image.paste(drawn, (0, 0), drawn)
        clip[index] = np.asarray(image)
    return clip


def place(sprite: Image.Image, where: NDArray[np.float64], aspect: float = 1.0, canvas: int = SIZE) -> Image.Image:
    """A sprite on a transparent square canvas, at sub-pixel accuracy; `where` is centre x, y, size, turn (degrees).

    `aspect` is its width over its height; its area is that of a square of `size` pixels.
    """
    x, y, size, turn = (float(value) for value in where)
    wide, high = size * math.sqrt(aspect), size / math.sqrt(aspect)
    across, down = sprite.width / wide, sprite.height / high
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    half = sprite.width / 2
    matrix = (
        across * cos,
        across * sin,
        half - across * (cos * x + sin * y),
        -down * sin,
        down * cos,
        half - down * (cos * y - sin * x),
    )
    return sprite.transform((canvas, canvas), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Choices:
    """What scenes are made of: what a model knows of the world, or what one of its sentences may say."""

    words: tuple[str, ...] = tuple(CLASSES)
    motions: tuple[str, ...] = tuple(MOTIONS)
    styles: tuple[str, ...] = tuple(STYLES)
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    speeds: tuple[str, ...] = SPEEDS
    described: bool = True
    """Whether sizes and colours are named now and then."""


EVERYTHING = Choices()


def random_scene(
    rng: np.random.Generator, actors: int = 1, choices: Choices = EVERYTHING, styled: float = 0.35
) -> Scene:
    """A random scene of members of different classes that stay in the frame; the share `styled` is not plain."""
    cast = [random_member(rng, str(name)) for name in rng.choice(choices.words, actors, replace=False)]
    apart = 0.6 if actors < 3 and rng.random() < 0.4 else 0.42
    shrunk = 1.0
    while True:
        placed = [
            random_actor(rng, subject, str(rng.choice(choices.motions)), actors, shrunk, choices.speeds)
            for subject in cast
        ]
        if not collide(placed, apart):
            break
        shrunk = max(0.8, shrunk * 0.99)
    words = (true_words(rng, actor, actors) if choices.described else () for actor in placed)
    described = tuple(replace(actor, words=some) for actor, some in zip(placed, words, strict=True))
    others = [style for style in choices.styles if style != "plain"]
    style = str(rng.choice(others)) if others and rng.random() < styled else "plain"
    return Scene(described, str(rng.choice(choices.backgrounds)), style, names_style=bool(rng.random() < 0.1))


def random_actor(
    rng: np.random.Generator,
    subject: Subject,
    motion: str,
    actors: int = 1,
    shrunk: float = 1.0,
    speeds: Sequence[str] = SPEEDS,
) -> Actor:
    """An actor of random size and speed that stays inside the frame during the whole clip."""
    amounts = motion_named(motion).amounts
    speed = str(rng.choice([speed for speed in amounts if speed in speeds]))
    amount = float(rng.uniform(*amounts[speed]))
    moves = course(motion, amount, FRAMES)
    largest = float(moves.scale.max())
    size = min(shrunk * float(rng.uniform(*SIZES[actors])), GROWTH_ROOM / largest)
    half = size * largest / 2 * 0.96
    shift = np.stack([moves.x, moves.y], -1)
    low, high = half - shift.min(0), SIZE - half - shift.max(0)
    x, y = rng.uniform(np.minimum(low, high), np.maximum(low, high))
    return Actor(subject, motion, size, (float(x), float(y)), amount, speed)


def true_words(rng: np.random.Generator, actor: Actor, actors: int) -> tuple[str, ...]:
    """Now and then a describing word or two, none that is not true. Crowded scenes have long captions without them."""
    if actors > 2:
        return ()
    low, high = SIZES[actors]
    share = (actor.size - low) / (high - low)
    size = "small" if share < 0.3 else "large" if share > 0.7 else ""
    words = [size if rng.random() < 0.25 else "", (actor.subject.colour() or "") if rng.random() < 0.25 else ""]
    return tuple(word for word in words if word)


def collide(actors: Sequence[Actor], apart: float = 0.42) -> bool:
    """True when two sprites come closer, at any frame, than the share `apart` of their sizes together."""
    paths = [actor.placed() for actor in actors]
    for index, one in enumerate(paths):
        for other in paths[index + 1 :]:
            gap = np.abs(one[:, :2] - other[:, :2]).max(-1)
            if (gap < apart * (one[:, 2] + other[:, 2])).any():
                return True
    return False


def combination(scene: Scene) -> str:
    """The (class, motion, background) combination of a scene as one string; the order of the actors is irrelevant."""
    cast = sorted(f"{actor.subject.word}|{actor.motion}" for actor in scene.actors)
    return "|".join((*cast, scene.background))


def for_evaluation(scene: Scene) -> bool:
    """True for one combination in five with one actor and one in ten with several: training leaves them out."""
    share = 5 if len(scene.actors) == 1 else 10
    return zlib.crc32(combination(scene).encode()) % share == 0
