"""The committed small text-to-video model: loading, and the whole method on it with real lessons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from text_to_video import FOLDER, SmallModel, halved_frames, load_small
from torch import Tensor, nn
from world.scenes import Scene, random_actor
from world.subjects import held_out_subject

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.diffusers_folder import read_folder
from ccvd_core.concepts.concept import Concept
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt, predict_prompts
from ccvd_core.sampling import sample

LEARNED, KEPT_APART = 0.85, 0.1

SETTINGS = LearningSettings(
    steps=60, rank=8, lr=3e-3, token_lr=1e-2, batch=8, time_spread=1.7, time_shift=1.0, retention=0.0
)


@pytest.fixture(scope="module")
def small() -> SmallModel:
    return load_small()


@pytest.fixture(scope="module")
def backbone(small: SmallModel) -> Backbone:
    return small.backbone()


def pictures(small: SmallModel, subject: str, seed: int, count: int = 6) -> list[Tensor]:
    """Latents of still pictures of a subject on green grass."""
    rng = np.random.default_rng(seed)
    scenes = [Scene((random_actor(rng, held_out_subject(subject), "still"),), "green grass") for _ in range(count)]
    return [small.to_latents(halved_frames(scene, 1)) for scene in scenes]


def taught(
    small: SmallModel,
    backbone: Backbone,
    name: str,
    subject: str,
    words: str,
    earlier: tuple[Concept, ...] = (),
    retention: float = 0.0,
) -> Concept:
    examples = [Example(latents, f"a <{name}> still on green grass") for latents in pictures(small, subject, 1)]
    settings = replace(SETTINGS, retention=retention)
    learner = ConceptLearner(backbone, examples, name, "subject", words, settings, earlier)
    with Attachment(backbone, [learner.live_adapters()]) as attachment:
        while learner.done < settings.steps:
            learner.step(attachment)
    return learner.concept()


@pytest.fixture(scope="module")
def rex(small: SmallModel, backbone: Backbone) -> Concept:
    return taught(small, backbone, "rex", "fox", "dog")


@pytest.fixture(scope="module")
def cab(small: SmallModel, backbone: Backbone, rex: Concept) -> Concept:
    return taught(small, backbone, "cab", "taxi", "car", (rex,), retention=1.0)


@torch.no_grad()
def fixed_loss(backbone: Backbone, prompt: ConceptPrompt, concepts: list[Concept], latents: list[Tensor]) -> float:
    """Mean squared error on pictures that were not learned from, on fixed noise at four levels."""
    clean, path, losses = torch.stack(latents), backbone.noise_path, []
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:
        for number, position in enumerate((0.2, 0.4, 0.6, 0.8)):
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
            level = path.level(torch.full((len(clean),), position))
            with attachment.activate([prompt] * len(clean), clean.device):
                found = predict_prompts(backbone, path.mix(clean, noise, level), level, [prompt] * len(clean))
            losses.append(float((found - path.target(clean, noise, level)).square().mean()))
    return sum(losses) / len(losses)


def test_the_folder_is_one_that_the_loader_reads_and_fits_into_the_repository():
    found = read_folder(FOLDER)
    assert found.scheduler["prediction_type"] == "v_prediction"
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 15e6


def test_a_held_out_subject_is_learned(small: SmallModel, backbone: Backbone, rex: Concept):
    unseen = pictures(small, "fox", seed=2, count=8)
    before = fixed_loss(backbone, aggregate(backbone, "a dog still on green grass", []).prompt, [], unseen)
    named = aggregate(backbone, "a <rex> still on green grass", [rex]).prompt
    after = fixed_loss(backbone, named, [rex], unseen)
    assert after < LEARNED * before, (after, before)


def overlap(one: Concept, other: Concept) -> float:
    """Mean squared cosine between the columns of both concepts' B."""
    shares = []
    for site, low_rank in one.adapters.items():
        a, b = (nn.functional.normalize(x.b, dim=0) for x in (low_rank, other.adapters[site]))
        shares.append(float((a.T @ b).square().mean()))
    return sum(shares) / len(shares)


def test_retention_keeps_the_second_concept_apart(small: SmallModel, backbone: Backbone, rex: Concept, cab: Concept):
    free = taught(small, backbone, "cab", "taxi", "car", (rex,))
    assert overlap(rex, cab) < KEPT_APART * overlap(rex, free), (overlap(rex, cab), overlap(rex, free))


def test_a_prompt_that_names_one_concept_gives_the_other_no_weight(backbone: Backbone, rex: Concept, cab: Concept):
    weights = aggregate(backbone, "a <rex> still on green grass", [rex, cab]).weights
    assert (weights[:, 0] > 0).all() and (weights[:, 1] == 0).all()


def drawn(backbone: Backbone, concepts: list[Concept], prompt: AnyPrompt) -> Tensor:
    negative = aggregate(backbone, "", concepts).prompt
    noise = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with Attachment(backbone, [concept.adapters for concept in concepts]) as attachment:
        return sample(backbone, attachment, [prompt], negative, noise, steps=4)


def scene(prompts: list[ConceptPrompt]) -> RegionalPrompt:
    boxes = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0))
    regions = tuple(Region("", "a dog", "#ffffff", 1.0, (Keyframe(0.0, box),)) for box in boxes)
    return RegionalPrompt(tuple(prompts), RegionSet(64, 64, regions))


def test_two_regions_act_and_identical_ones_are_the_plain_prompt(backbone: Backbone, rex: Concept, cab: Concept):
    concepts = [rex, cab]
    texts = ("green grass", "a <rex> still on green grass", "a <cab> still on green grass")
    around, left, right = (aggregate(backbone, text, concepts).prompt for text in texts)
    plain = drawn(backbone, concepts, left)
    torch.testing.assert_close(drawn(backbone, concepts, scene([left, left, left])), plain, atol=1e-4, rtol=1e-4)
    ours = drawn(backbone, concepts, scene([around, left, right]))
    for one in (around, left, right):
        assert (ours - drawn(backbone, concepts, one)).abs().mean() > 0.01
