"""How actors move: each motion is a table row of curves over the clip, each speed a range of how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]
SPEEDS = ("slowly", "", "quickly")
"""Words for speeds; the middle one goes without saying."""


class Course(NamedTuple):
    """Where an actor is in each frame, relative to its start: pixels, scale (1: its size), turn in degrees."""

    x: Curve
    y: Curve
    scale: Curve
    turn: Curve


@dataclass(frozen=True)
class Motion:
    """One motion: its course for an amount, and the amounts (lowest, highest) of each speed."""

    course: Callable[[Curve, float], Course]
    amounts: dict[str, tuple[float, float]]


def _travel(x: float, y: float) -> Callable[[Curve, float], Course]:
    return lambda t, amount: Course(x * amount * t, y * amount * t, 1 + 0 * t, 0 * t)


def _still(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 + 0 * t, 0 * t)


def _growing(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 - amount / 2 + amount * t, 0 * t)


def _shrinking(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 + amount / 2 - amount * t, 0 * t)


def _pulsing(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 + amount / 2 * np.sin(2 * np.pi * t), 0 * t)


def _spinning(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 + 0 * t, amount * t)


def _swinging(t: Curve, amount: float) -> Course:
    return Course(0 * t, 0 * t, 1 + 0 * t, amount * np.sin(2 * np.pi * t))


def _circling(t: Curve, amount: float) -> Course:
    angle = 2 * np.pi * amount * t
    return Course(15 * np.sin(angle), 15 * (1 - np.cos(angle)), 1 + 0 * t, 0 * t)


def _shaking(t: Curve, amount: float) -> Course:
    return Course(7 * np.sin(2 * np.pi * amount * t), 0 * t, 1 + 0 * t, 0 * t)


def _bouncing(t: Curve, amount: float) -> Course:
    return Course(0 * t, -24 * np.abs(np.sin(np.pi * amount * t)), 1 + 0 * t, 0 * t)


def _hopping(t: Curve, amount: float) -> Course:
    return Course(0 * t, -4 * amount * t * (1 - t), 1 + 0 * t, 0 * t)


def _zigzag(t: Curve, amount: float) -> Course:
    return Course(amount * np.sin(2 * np.pi * t), 0 * t, 1 + 0 * t, 0 * t)


_PIXELS = {"slowly": (14.0, 20.0), "": (26.0, 36.0), "quickly": (46.0, 60.0)}
_SCALES = {"slowly": (0.2, 0.28), "": (0.38, 0.5), "quickly": (0.65, 0.8)}
_ONLY = {"": (26.0, 36.0)}

MOTIONS: dict[str, Motion] = {
    "still": Motion(_still, {"": (0.0, 0.0)}),
    "moving left": Motion(_travel(-1, 0), _PIXELS),
    "moving right": Motion(_travel(1, 0), _PIXELS),
    "moving up": Motion(_travel(0, -1), _PIXELS),
    "moving down": Motion(_travel(0, 1), _PIXELS),
    "growing": Motion(_growing, _SCALES),
    "shrinking": Motion(_shrinking, _SCALES),
    "spinning": Motion(_spinning, {"slowly": (70.0, 110.0), "": (160.0, 200.0), "quickly": (320.0, 400.0)}),
    "circling": Motion(_circling, {"slowly": (0.5, 0.5), "": (1.0, 1.0), "quickly": (1.5, 1.5)}),
    "shaking": Motion(_shaking, {"slowly": (1.0, 1.0), "": (2.0, 2.0), "quickly": (3.0, 3.0)}),
    "bouncing": Motion(_bouncing, {"slowly": (1.5, 1.5), "": (2.0, 2.0), "quickly": (3.0, 3.0)}),
}
"""The motions of the base."""

HELD_OUT_MOTIONS: dict[str, tuple[str, Motion]] = {
    "hopping": ("moving up", Motion(_hopping, _ONLY)),
    "diagonal": ("moving right", Motion(_travel(1, 1), _ONLY)),
    "zigzag": ("moving left", Motion(_zigzag, _ONLY)),
    "swinging": ("spinning", Motion(_swinging, {"": (28.0, 40.0)})),
    "pulsing": ("growing", Motion(_pulsing, {"": (0.5, 0.7)})),
}
"""Held-out motion -> (its class words, the motion)."""


def motion_named(name: str) -> Motion:
    """A motion of the base or a held-out one. Raises ValueError for others."""
    if name in MOTIONS:
        return MOTIONS[name]
    if name in HELD_OUT_MOTIONS:
        return HELD_OUT_MOTIONS[name][1]
    raise ValueError(f"unknown motion {name!r}: expected one of {', '.join((*MOTIONS, *HELD_OUT_MOTIONS))}")


def course(name: str, amount: float, frames: int) -> Course:
    """Where the motion takes an actor, per frame."""
    return motion_named(name).course(np.linspace(0.0, 1.0, frames), amount)
