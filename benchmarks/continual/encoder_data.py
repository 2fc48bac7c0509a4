"""What the learned judge is trained and tested on: scenes with one object, of everything in the world."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from encoder import SUBJECTS, shrink
from scene_parts import PARTS, subject_named
from torch import Tensor
from torch.nn import functional
from world.backgrounds import BACKGROUNDS
from world.motions import HELD_OUT_MOTIONS, MOTIONS
from world.scenes import Scene, random_actor, true_words
from world.styles import HELD_OUT_STYLES, STYLES
from world.subjects import Subject

VALUES = {
    "subject": SUBJECTS,
    "motion": (*MOTIONS, *HELD_OUT_MOTIONS),
    "background": tuple(BACKGROUNDS),
    "style": (*STYLES, *HELD_OUT_STYLES),
}
"""Attributes of a caption and what they can be."""


def kinds(moving: bool) -> list[str]:
    """The attributes of a clip, or of a single frame."""
    return [kind for kind in VALUES if moving or PARTS[kind].seen_in_frames]


def attribute(scene: Scene, kind: str) -> str:
    """The value of one attribute of a scene with one object."""
    return PARTS[kind].of(scene)


def caption_with(scene: Scene, kind: str, value: str) -> Scene:
    """A scene whose caption differs in one attribute only, to be read and not to be drawn."""
    (actor,) = scene.actors
    changed: dict[str, Scene] = {
        "subject": replace(scene, actors=(replace(actor, subject=Subject(value, "")),)),
        "motion": replace(scene, actors=(replace(actor, motion=value),)),
    }
    return changed.get(kind) or replace(scene, **{kind: value})


def still_caption(scene: Scene) -> str:
    """The caption without its motion: what a single frame can show."""
    actor = scene.actors[0]
    return scene.caption().replace(f" {actor.motion} {actor.speed}".rstrip(), "", 1)


def left_out(scene: Scene) -> bool:
    """True for one combination of attributes in ten, which training never sees."""
    return same(scene, moving=True) % 10 == 0


def same(scene: Scene, moving: bool) -> int:
    """A number that scenes share when their captions say the same, with or without the motion."""
    return zlib.crc32("|".join(attribute(scene, kind) for kind in kinds(moving)).encode())


def scenes(seed: int, count: int, for_report: bool) -> list[Scene]:
    """Scenes with one object, of everything in the world, held out or not, all of it equally often."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        value = {kind: str(rng.choice(VALUES[kind])) for kind in VALUES}
        actor = random_actor(rng, subject_named(rng, value["subject"]), value["motion"])
        actor = replace(actor, words=true_words(rng, actor, 1))
        scene = Scene((actor,), value["background"], value["style"], names_style=bool(rng.random() < 0.3))
        if left_out(scene) == for_report:
            found.append(scene)
    return found


def render(chosen: Sequence[Scene]) -> Tensor:
    """Real clips [n, frames, height, width, 3] in 0..1."""
    return torch.from_numpy(np.stack([scene.render() for scene in chosen])).float() / 255


class Pool:
    """Rendered scenes [n, frames, 3, SIDE, SIDE] in half precision, and noise to add to them."""

    def __init__(self, known: Sequence[Scene], draw: torch.Generator) -> None:
        self._draw = draw
        self._sharp = torch.cat([shrink(render([scene])).half() for scene in known])
        self._noise = torch.randn((128, *self._sharp.shape[1:]), generator=draw).half()

    def soften(self, index: Tensor, shown: Tensor | None = None) -> Tensor:
        """The clips of `index` [n], each blurred, noised and dimmed by its own random amount, in fp32; only the frames
        `shown`, where they are given."""

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand((len(index), 1, 1, 1, 1), generator=self._draw)

        frames = torch.arange(self._sharp.shape[1]) if shown is None else shown
        noise = self._noise[torch.randint(len(self._noise), (len(index),), generator=self._draw)][:, frames].float()
        sharp = self._sharp[index][:, frames].float()
        clips = torch.lerp(sharp, blur(sharp.flatten(0, 1)).view_as(sharp), uniform(0, 1.2))
        return clips.mul_(uniform(0.85, 1.1)).add_(uniform(-0.1, 0.1)).add_(noise.mul_(uniform(0, 0.15)))


def blur(frames: Tensor) -> Tensor:
    """Gaussian blur of 1.2 of the small pixels (2.4 of the clip's) of [frames, 3, SIDE, SIDE]."""
    line = torch.exp(-torch.arange(-2.0, 3.0).square() / (2 * 1.2**2))
    kernel = (torch.outer(line, line) / line.sum() ** 2).expand(3, 1, 5, 5)
    return functional.conv2d(functional.pad(frames, [2] * 4, mode="replicate"), kernel, groups=3)
