"""The committed weights do what the demo is for: they follow captions, and a concept can be taught to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from base import LATENT_SHAPE, DemoBase, load_base
from evaluate import held_out_captions, held_out_scenes
from lessons import TUNING_SEED, LessonPlan, learn_from
from scorer import Scorer
from torch import Tensor
from world import Scene

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.concepts.concept import Concept
from ccvd_core.learning.plan import usual_settings
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import AggregationSettings
from ccvd_core.sampling import sample

REX = LessonPlan("rex", "subject", "fox", "dog")
STEPS, RATE = 150, 3e-3
"""A quarter of the preset's steps at three times its rate: enough to tell a fox, not to draw it as well."""


@pytest.fixture(scope="module")
def base() -> DemoBase:
    return load_base()


def share(clips: Tensor, scenes: Sequence[Scene], part: str) -> float:
    scorer = Scorer()
    return float(np.mean([getattr(scorer.score(clip, scene), part) for clip, scene in zip(clips, scenes, strict=True)]))


def test_the_base_follows_captions_it_was_not_trained_on(base: DemoBase):
    with fast_autocast():
        clips = base.draw(held_out_captions(16, 1), range(16))
    scenes = held_out_scenes(16, 1)
    # Chance is one in 18 subjects, one in eight motions, one in five backgrounds.
    assert share(clips, scenes, "object") >= 0.6
    assert share(clips, scenes, "motion") >= 0.75
    assert share(clips, scenes, "background") >= 0.9


@pytest.fixture(scope="module")
def concept(base: DemoBase) -> Concept:
    usual = usual_settings(base.backbone(), REX.kind)
    examples = REX.examples(base, usual.still_frames)
    return learn_from(base, REX, examples, (), replace(usual, steps=STEPS, lr=RATE))


def test_the_base_learns_a_subject_from_pictures(base: DemoBase, concept: Concept):
    scenes = REX.judged_scenes(8, True, TUNING_SEED)
    with_concept = drawn(base, [REX.caption(scene) for scene in scenes], [concept])
    assert share(with_concept, scenes, "object") >= 0.5
    assert share(with_concept, scenes, "motion") >= 0.6, "a still picture must not freeze the video"


def test_the_base_does_not_know_the_subject_beforehand(base: DemoBase):
    scenes = REX.judged_scenes(4, True, TUNING_SEED)
    without = drawn(base, [REX.caption(scene).replace("<rex>", "dog") for scene in scenes], [])
    assert share(without, scenes, "object") <= 0.2


def drawn(base: DemoBase, captions: Sequence[str], concepts: Sequence[Concept]) -> Tensor:
    backbone = base.backbone()
    prompts = [aggregate(backbone, caption, concepts, AggregationSettings()).prompt for caption in captions]
    negative = aggregate(backbone, "", concepts).prompt
    noise = torch.randn(len(captions), *LATENT_SHAPE, generator=torch.Generator().manual_seed(0))
    with Attachment(backbone, [c.adapters for c in concepts]) as attached, fast_autocast():
        return base.to_clips(sample(backbone, attached, prompts, negative, noise))
