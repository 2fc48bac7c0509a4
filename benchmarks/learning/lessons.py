"""The six held-out concepts of the benchmark, what they are learned from, and the captions they are judged on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from base import DemoBase
from latents import to_tensor
from scene_parts import PARTS
from world import BACKGROUNDS, HELD_OUT_MOTIONS, HELD_OUT_SUBJECTS, Scene

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.concepts.concept import Concept
from ccvd_core.concepts.kinds import KINDS, Kind
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings

EXAMPLES = 5
TABLE_SEED, TUNING_SEED = 71_000, 17_000
"""Scenes of the published table, and of the captions that settings are chosen on."""


@dataclass(frozen=True)
class LessonPlan:
    """One concept: `shown` is what the world calls it (the sprite, motion or style that the base has never seen)."""

    name: str
    kind: Kind
    shown: str
    class_words: str

    def scene(self, rng: np.random.Generator, with_concept: bool) -> Scene:
        """A random one-object scene that shows the concept, or its related base object instead."""
        return PARTS[self.kind].random(rng, self.shown if with_concept else self.class_words)

    def caption(self, scene: Scene) -> str:
        """The scene's caption with the concept written `<name>`; for a style, `<noir>` stands for its class words."""
        return scene.caption().replace(self.shown, f"<{self.name}>", 1)

    def examples(self, base: DemoBase, still_frames: int) -> list[Example]:
        """Pictures (subject, style) or clips (motion) on different backgrounds, none of them used in the table.

        As in Learn Concept, a picture is also learned as a still clip of `still_frames`.
        """
        examples = []
        for scene in self._learned_scenes():
            clip = scene.render()
            media = [clip] if KINDS[self.kind].moves else [clip[:1], clip[:still_frames]]
            for frames in media:
                examples.append(Example(base.to_latents(to_tensor(frames[None]))[0], self.caption(scene)))
        return examples

    def judged_scenes(self, count: int, with_concept: bool, seed: int) -> list[Scene]:
        """Scenes of captions that learning did not use."""
        learned = {(s.actors[0].subject, s.actors[0].motion, s.background) for s in self._learned_scenes()}
        rng, scenes = np.random.default_rng([seed, sum(map(ord, self.name)), with_concept]), []
        while len(scenes) < count:
            scene = self.scene(rng, with_concept)
            if (scene.actors[0].subject, scene.actors[0].motion, scene.background) not in learned:
                scenes.append(scene)
        return scenes

    def _learned_scenes(self) -> list[Scene]:
        rng = np.random.default_rng([3, sum(map(ord, self.name))])
        backgrounds = list(BACKGROUNDS)
        scenes = []
        for index in range(EXAMPLES):
            scene = replace(self.scene(rng, True), background=backgrounds[index % len(backgrounds)])
            scenes.append(scene if KINDS[self.kind].moves else standing(scene))
        return scenes


def standing(scene: Scene) -> Scene:
    """The scene as a picture shows it: nothing moves, and the caption says so."""
    return replace(scene, actors=tuple(replace(actor, motion="still") for actor in scene.actors))


PLANS = (
    LessonPlan("rex", "subject", "fox", HELD_OUT_SUBJECTS["fox"]),
    LessonPlan("hop", "motion", "hopping", HELD_OUT_MOTIONS["hopping"]),
    LessonPlan("cab", "subject", "taxi", HELD_OUT_SUBJECTS["taxi"]),
    LessonPlan("noir", "style", "noir", "plain"),
    LessonPlan("hoops", "subject", "basketball", HELD_OUT_SUBJECTS["basketball"]),
    LessonPlan("slide", "motion", "diagonal", HELD_OUT_MOTIONS["diagonal"]),
)
"""In learning order."""


def learn(base: DemoBase, plan: LessonPlan, earlier: Sequence[Concept], plain: bool = False) -> tuple[Concept, float]:
    """One concept and the seconds it took; a `plain` one is a LoRA without concept tokens and retention."""
    settings = usual_settings(base.backbone(), plan.kind)
    if plain:
        settings = replace(settings, tokens=False, own_words_only=False, retention=0.0)
    began = time.monotonic()
    examples = plan.examples(base, settings.still_frames)
    concept = learn_from(base, plan, examples, () if plain else earlier, settings)
    return concept, time.monotonic() - began


def learn_from(
    base: DemoBase,
    plan: LessonPlan,
    examples: Sequence[Example],
    earlier: Sequence[Concept],
    settings: LearningSettings,
) -> Concept:
    """One concept learned from its examples with these settings after `earlier` ones."""
    backbone = base.backbone()
    learner = ConceptLearner(backbone, examples, plan.name, plan.kind, plan.class_words, settings, earlier)
    with Attachment(backbone, [learner.live_adapters()]) as attachment:
        while learner.done < settings.steps:
            learner.step(attachment)
    return learner.concept()
