"""What a clip got right of its scene, and how crisp it is: the numbers of `evaluate.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .backgrounds import SIZE
from .reader import TIE, Found, find, follow, name_motion, setting_costs
from .scenes import Actor, Scene
from .subjects import Look, Subject

Reconstruct = Callable[[Tensor], Tensor]
"""Clips [n, frames, h, w, 3] in 0..1 passed through the VAE."""


@dataclass(frozen=True)
class Score:
    """What is right; `crispness` is None where nobody was found."""

    object: bool
    motion: bool
    speed: bool
    background: bool
    style: bool
    crispness: float | None = None


def score(clip: Tensor, scene: Scene, reconstruct: Reconstruct | None = None) -> Score:
    """Judge a clip [frames, h, w, 3] in 0..1 against the scene that its caption describes.

    Objects are right when the strongest sprites of the first frame, followed to the last and looked at anew there, are
    of exactly the expected classes. With one expected actor, motion is judged on the strongest sprite, whoever it is.
    """
    costs = setting_costs(clip)
    least = min(costs.values())
    alike = {pair for pair, cost in costs.items() if cost <= least + TIE}
    wanted = (scene.background, scene.style)
    background, style = wanted if wanted in alike else min(costs, key=lambda pair: costs[pair])
    found, _ = find(clip[0], background, style, len(scene.actors))
    paths = [follow(clip, first, background, style) for first in found]
    first = Counter(actor.sprite.word for actor in found)
    words = Counter(actor.subject.word for actor in scene.actors)
    right = first == words and all(_still_is(clip, path, background, style) for path in paths)
    named = [(path[0].sprite.word, *name_motion(np.stack([pose.pose() for pose in path]))) for path in paths]
    expected = [(actor.subject.word, actor.motion, actor.speed) for actor in scene.actors]
    if len(expected) == 1:
        named, expected = ([("", *entry[1:]) for entry in entries] for entries in (named, expected))
    return Score(
        right,
        Counter(entry[:2] for entry in named) == Counter(entry[:2] for entry in expected),
        Counter(named) == Counter(expected),
        any(pair[0] == scene.background for pair in alike),
        any(pair[1] == scene.style for pair in alike),
        crispness(clip, paths, background, style, reconstruct) if reconstruct and paths else None,
    )


def _still_is(clip: Tensor, path: list[Found], background: str, style: str) -> bool:
    """Whether who was found in the first frame is the best explanation of the last one too, up to the class."""
    last = path[-1]
    if abs(last.turn) > 25 or not 34 <= last.size <= 74:  # templates are upright and of those sizes
        return last.match > 0.25
    again, _ = find(clip[-1], background, style, 1)
    others = [other for other in again if abs(other.x - last.x) + abs(other.y - last.y) < 16]
    return all(other.sprite.word == last.sprite.word for other in others) and last.match > 0.25


def crispness(clip: Tensor, paths: list[list[Found]], background: str, style: str, reconstruct: Reconstruct) -> float:
    """Gradient energy of the actors' boxes in the first and the last frame, against the same scene through the VAE."""
    scene = Scene(tuple(as_actor(path[0]) for path in paths), background, style)
    moved = Scene(tuple(as_actor(path[-1]) for path in paths), background, style)
    drawn = [torch.from_numpy(s.render(len(clip))).float() / 255 for s in (scene, moved)]
    first, last = reconstruct(torch.stack(drawn))
    shares = []
    for frame, reference, end in ((clip[0], first[0], 0), (clip[-1], last[-1], -1)):
        for path in paths:
            box = around(path[end])
            shares.append(float(energy(frame[box]) / energy(reference[box]).clamp_min(1e-6)))
    return float(np.mean(shares))


def as_actor(found: Found) -> Actor:
    """A still actor as it was found; turned ones are drawn upright, which has the same energy."""
    return Actor(
        Subject(found.sprite.word, found.sprite.file, replace(Look(), mirrored=found.sprite.mirrored)),
        "still",
        found.size,
        (found.x, found.y),
        0.0,
    )


def around(found: Found) -> tuple[slice, slice]:
    """Rows and columns of a found sprite's box, inside the frame."""
    half = found.size / 2
    rows, columns = (slice(max(0, round(at - half)), min(SIZE, round(at + half))) for at in (found.y, found.x))
    return rows, columns


def energy(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of [h, w, 3]."""
    return picture.diff(dim=0).square().mean() + picture.diff(dim=1).square().mean()
