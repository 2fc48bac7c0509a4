"""The committed weights do what the demo is for: they follow captions, and a concept can be taught to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from bases import Demo, load_demo
from evaluate import SPLITS, evaluation_scenes
from lessons import TUNING_SEED, learn_from, subject
from library_use import CCVD, draw
from torch import Tensor
from world.judge import score
from world.scenes import Scene

from ccvd_core.concepts.concept import Concept
from ccvd_core.learning.plan import usual_settings
from ccvd_core.number_types import fast_autocast

REX = subject("rex", "fox")
STEPS, RATE = 250, 2e-3
"""Less than half of the preset's steps at twice its rate: enough to tell a fox, not to draw it as well."""


@pytest.fixture(scope="module")
def base() -> Demo:
    return load_demo()


def share(clips: Tensor, scenes: Sequence[Scene], part: str) -> float:
    return float(np.mean([getattr(score(clip, scene), part) for clip, scene in zip(clips, scenes, strict=True)]))


def test_the_base_follows_captions_it_was_not_trained_on(base: Demo):
    scenes = evaluation_scenes(SPLITS["one_object"], 16)
    with fast_autocast():
        clips = base.model.draw([scene.caption() for scene in scenes], range(16))
    # Chance is one in 54 subjects, one in sixteen motions, one in thirteen backgrounds.
    assert share(clips, scenes, "object") >= 0.6
    assert share(clips, scenes, "motion") >= 0.75
    assert share(clips, scenes, "background") >= 0.9


@pytest.fixture(scope="module")
def concept(base: Demo) -> Concept:
    usual = usual_settings(base.backbone, REX.kind)
    examples = REX.examples(base, usual.still_frames)
    return learn_from(base, REX, examples, (), replace(usual, steps=STEPS, lr=RATE))


def test_the_base_learns_a_subject_from_pictures(base: Demo, concept: Concept):
    scenes = REX.judged_scenes(8, True, TUNING_SEED, base.known)
    with_concept = draw(base, CCVD, [concept], [REX.caption(scene) for scene in scenes], range(8))
    assert share(with_concept, scenes, "object") >= 0.5
    assert share(with_concept, scenes, "motion") >= 0.6, "a still picture must not freeze the video"


def test_the_base_does_not_know_the_subject_beforehand(base: Demo):
    scenes = REX.judged_scenes(4, True, TUNING_SEED, base.known)
    without = draw(base, CCVD, [], [REX.caption(scene).replace("<rex>", "dog") for scene in scenes], range(4))
    assert share(without, scenes, "object") <= 0.2
