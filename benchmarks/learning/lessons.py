"""The held-out concepts of the benchmark, what they are learned from, and the captions they are judged on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from bases import Base
from scene_parts import PARTS
from world.motions import HELD_OUT_MOTIONS
from world.scenes import Choices, Scene, combination
from world.subjects import HELD_OUT

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

    def scene(self, rng: np.random.Generator, with_concept: bool, known: Choices) -> Scene:
        """A random one-object scene that shows the concept, or its related base object instead."""
        return PARTS[self.kind].random(rng, self.shown if with_concept else self.class_words, known)

    def fits(self, known: Choices) -> bool:
        """Whether a model of these choices knows the class words."""
        return self.class_words in (*known.words, *known.motions, *known.styles)

    def caption(self, scene: Scene) -> str:
        """The scene's caption with the concept written `<name>`; for a style, `<noir>` stands for its class words."""
        return scene.caption().replace(self.shown, f"<{self.name}>", 1)

    def examples(self, base: Base, still_frames: int, count: int = EXAMPLES) -> list[Example]:
        """Pictures (subject, style) or clips (motion) on different backgrounds, none of them used in the table.

        As in Learn Concept, a picture is also learned as a still clip of `still_frames`.
        """
        examples = []
        for scene in self._learned_scenes(base.known)[:count]:
            clip = scene.render()
            media = [clip] if KINDS[self.kind].moves else [clip[:1], clip[:still_frames]]
            examples += [Example(base.encoded(frames), self.caption(scene)) for frames in media]
        return examples

    def judged_scenes(self, count: int, with_concept: bool, seed: int, known: Choices) -> list[Scene]:
        """Scenes of captions that learning did not use."""
        learned = {combination(scene) for scene in self._learned_scenes(known)}
        rng, scenes = np.random.default_rng([seed, sum(map(ord, self.name)), with_concept]), []
        while len(scenes) < count:
            scene = self.scene(rng, with_concept, known)
            if combination(scene) not in learned:
                scenes.append(scene)
        return scenes

    def _learned_scenes(self, known: Choices) -> list[Scene]:
        rng = np.random.default_rng([3, sum(map(ord, self.name))])
        scenes = []
        for index in range(EXAMPLES):
            background = known.backgrounds[index % len(known.backgrounds)]
            scene = replace(self.scene(rng, True, known), background=background)
            scenes.append(scene if KINDS[self.kind].moves else standing(scene))
        return scenes


def standing(scene: Scene) -> Scene:
    """The scene as a picture shows it: nothing moves, and the caption says so."""
    return replace(scene, actors=tuple(replace(actor, motion="still", speed="") for actor in scene.actors))


def subject(name: str, shown: str) -> LessonPlan:
    return LessonPlan(name, "subject", shown, HELD_OUT[shown][1])


def motion(name: str, shown: str) -> LessonPlan:
    return LessonPlan(name, "motion", shown, HELD_OUT_MOTIONS[shown][0])


def style(name: str, shown: str) -> LessonPlan:
    return LessonPlan(name, "style", shown, "plain")


PLANS = (
    subject("rex", "fox"),
    motion("hop", "hopping"),
    subject("cab", "taxi"),
    style("noir", "noir"),
    subject("hoops", "basketball"),
    motion("slide", "diagonal"),
)
"""In learning order."""


def learn(
    base: Base, plan: LessonPlan, earlier: Sequence[Concept], plain: bool = False, count: int = EXAMPLES
) -> tuple[Concept, float]:
    """One concept of `count` examples, and the seconds it took; `plain`: a LoRA without tokens and retention."""
    settings = usual_settings(base.backbone, plan.kind)
    if plain:
        settings = replace(settings, tokens=False, own_words_only=False, retention=0.0)
    began = time.monotonic()
    examples = plan.examples(base, settings.still_frames, count)
    concept = learn_from(base, plan, examples, () if plain else earlier, settings)
    return concept, time.monotonic() - began


def learn_from(
    base: Base,
    plan: LessonPlan,
    examples: Sequence[Example],
    earlier: Sequence[Concept],
    settings: LearningSettings,
) -> Concept:
    """One concept learned from its examples with these settings after `earlier` ones."""
    backbone = base.backbone
    learner = ConceptLearner(backbone, examples, plan.name, plan.kind, plan.class_words, settings, earlier)
    with Attachment(backbone, [learner.live_adapters()]) as attachment:
        while learner.done < settings.steps:
            learner.step(attachment)
    return learner.concept()
