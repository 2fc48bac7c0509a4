"""Where a scene of the demo world shows each thing that a caption says, and who tells whether a clip shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from world.judge import Score
from world.scenes import Actor, Choices, Scene, random_actor, random_scene
from world.subjects import HELD_OUT, Subject, held_out_subject, random_member

ActorChange = Callable[[np.random.Generator, Actor, str], Actor]


def another_subject(rng: np.random.Generator, actor: Actor, name: str) -> Actor:
    """The actor as somebody else: a held-out subject, or a random member of a class. What described it is gone."""
    return replace(actor, subject=subject_named(rng, name), words=())


def another_motion(rng: np.random.Generator, actor: Actor, name: str) -> Actor:
    """The actor with another motion at its middle speed, somewhere in the frame."""
    return random_actor(rng, actor.subject, name, speeds=("",))


def subject_named(rng: np.random.Generator, name: str) -> Subject:
    """A held-out subject as it is, or a random member of the class of this name."""
    return held_out_subject(name) if name in HELD_OUT else random_member(rng, name)


@dataclass(frozen=True)
class ScenePart:
    """A part of a scene, which a concept of the kind of the same name replaces."""

    name: str
    of: Callable[[Scene], str]
    """Its value in a scene with one object."""
    change_actor: ActorChange | None = None
    """How an object gets another one; None where it is how the whole scene is."""
    seen_in_frames: bool = True
    """A single frame shows it."""
    judged_as: str = ""
    """Its name in a `Score`, where that is another one."""
    is_object: bool = False
    """It is who can be seen."""
    named: bool = False
    """A caption need not say it, and does so where it is what is looked for."""

    def changed(self, rng: np.random.Generator, scene: Scene, value: str) -> Scene:
        """The scene with another value."""
        if self.change_actor is None:
            return replace(scene, **{self.name: value})
        return replace(scene, actors=tuple(self.change_actor(rng, actor, value) for actor in scene.actors))

    def random(self, rng: np.random.Generator, value: str, choices: Choices) -> Scene:
        """A random scene with one object and this value, all else of `choices`; a style is named in its caption."""
        scene = self.changed(rng, random_scene(rng, 1, choices, styled=0.0), value)
        return replace(scene, names_style=self.named)

    def judged(self, score: Score) -> tuple[bool, bool]:
        """(this is seen, everything else in the caption holds)."""
        own = self.judged_as or self.name
        return getattr(score, own), all(getattr(score, part) for part in SCORED if part != own)


PARTS = {
    part.name: part
    for part in (
        ScenePart(
            "subject",
            lambda scene: scene.actors[0].subject.word,
            another_subject,
            judged_as="object",
            is_object=True,
        ),
        ScenePart("motion", lambda scene: scene.actors[0].motion, another_motion, seen_in_frames=False),
        ScenePart("background", lambda scene: scene.background),
        ScenePart("style", lambda scene: scene.style, named=True),
    )
}
SCORED = ("object", "motion", "background")
"""What every caption says."""
