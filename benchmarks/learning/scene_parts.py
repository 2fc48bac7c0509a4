"""Where a scene of the demo world shows each thing that a caption says, and who tells whether a clip shows it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scorer import Score
from world import Scene, random_scene


@dataclass(frozen=True)
class ScenePart:
    """A part of a scene, which a concept of the kind of the same name replaces."""

    name: str
    of_actor: bool
    """What an object is or does; else how the whole scene is."""
    seen_in_frames: bool = True
    """A single frame shows it."""
    judged_as: str = ""
    """Its name in a `Score`, where that is another one."""

    def of(self, scene: Scene) -> str:
        """Its value in a scene with one object."""
        return getattr(scene.actors[0] if self.of_actor else scene, self.name)

    def changed(self, scene: Scene, value: str) -> Scene:
        """The scene with another value."""
        if self.of_actor:
            return replace(scene, actors=tuple(replace(actor, **{self.name: value}) for actor in scene.actors))
        return replace(scene, **{self.name: value})

    def random(self, rng: np.random.Generator, value: str) -> Scene:
        """A random scene with one object and this value; a style is named in its caption."""
        if self.of_actor:
            choices: dict[str, tuple[str, ...]] = {f"{self.name}s": (value,)}
            return replace(random_scene(rng, **choices), names_style=False)  # type: ignore[arg-type]
        return replace(self.changed(random_scene(rng), value), names_style=True)

    def judged(self, score: Score) -> tuple[bool, bool]:
        """(this is seen, everything else in the caption holds)."""
        own = self.judged_as or self.name
        return getattr(score, own), all(getattr(score, part) for part in SCORED if part != own)


PARTS = {
    part.name: part
    for part in (
        ScenePart("subject", of_actor=True, judged_as="object"),
        ScenePart("motion", of_actor=True, seen_in_frames=False),
        ScenePart("background", of_actor=False),
        ScenePart("style", of_actor=False),
    )
}
SCORED = ("object", "motion", "background")
"""What every caption says."""
