"""The learning loop on a tiny Wan: losses, retention, bad input, what it needs."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.video_form import VideoForm
from ccvd_core.backbones.wan_families import wan_family
from ccvd_core.concepts.concept import BaseFingerprint, Concept
from ccvd_core.concepts.kinds import KINDS, Kind
from ccvd_core.errors import CCVDError, LearningError, UnknownConceptError
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.losses import motion_loss
from ccvd_core.learning.plan import check_fits, learning_need, usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import AggregationSettings

SETTINGS = LearningSettings(steps=30, rank=2, lr=1e-2, token_lr=1e-2, batch=2)


@pytest.fixture
def wan(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def examples(count: int = 2, frames: int = 3, caption: str = "a <{}> runs", name: str = "rex") -> list[Example]:
    generator = torch.Generator().manual_seed(11)
    return [Example(torch.randn(4, frames, 4, 6, generator=generator), caption.format(name)) for _ in range(count)]


def learned(wan: Backbone, name: str, settings: LearningSettings = SETTINGS, earlier: tuple = ()) -> Concept:
    learner = ConceptLearner(wan, examples(name=name), name, "subject", "dog", settings, earlier)
    with Attachment(wan, [learner.live_adapters()]) as attachment:
        while learner.done < settings.steps:
            learner.step(attachment)
    return learner.concept()


def overlap(one: Concept, other: Concept) -> float:
    """Mean squared cosine between the columns of both concepts' B."""
    total = 0.0
    for site, low_rank in one.adapters.items():
        a, b = (nn.functional.normalize(x.b, dim=0) for x in (low_rank, other.adapters[site]))
        total += float((a.T @ b).square().mean())
    return total / len(one.adapters)


def test_the_loss_goes_down(wan: Backbone):
    learner = ConceptLearner(wan, examples(1), "rex", "subject", "dog", replace(SETTINGS, steps=120, batch=4))
    with Attachment(wan, [learner.live_adapters()]) as attachment:
        losses = [learner.step(attachment).loss for _ in range(120)]
    assert sum(losses[-20:]) < 0.95 * sum(losses[:20])


def test_motion_loss_is_the_loss_on_frame_differences():
    generator = torch.Generator().manual_seed(2)
    prediction, target = torch.randn(2, 2, 3, 4, 2, 2, generator=generator, dtype=torch.float64)
    changes, count = 0.0, 0
    for b in range(2):
        for c in range(3):
            for f in range(1, 4):
                for y in range(2):
                    for x in range(2):
                        wanted = target[b, c, f, y, x] - target[b, c, f - 1, y, x]
                        got = prediction[b, c, f, y, x] - prediction[b, c, f - 1, y, x]
                        changes += float((wanted - got) ** 2)
                        count += 1
    plain = float((prediction - target).square().mean())
    expected = 0.9 * changes / count + 0.1 * plain
    assert float(motion_loss(prediction, target, 0.1)) == pytest.approx(expected, rel=1e-12)


def test_motion_loss_does_not_see_what_all_frames_share():
    target = torch.randn(1, 3, 4, 2, 2)
    shifted = target + torch.randn(1, 3, 1, 2, 2)
    assert float(motion_loss(shifted, target, 0.0)) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("form", ["subspace", "trace"])
def test_retention_keeps_the_second_concept_apart_from_the_first(wan: Backbone, form: str):
    first = learned(wan, "rex")
    free = learned(wan, "max", replace(SETTINGS, retention=0.0, seed=1), (first,))
    kept = learned(wan, "max", replace(SETTINGS, retention=10.0, retention_form=form, seed=1), (first,))  # type: ignore[arg-type]
    assert overlap(first, kept) < overlap(first, free)


def test_nan_stops_with_the_last_good_state_and_says_what_to_do(wan: Backbone):
    learner = ConceptLearner(wan, examples(), "rex", "subject", "dog", SETTINGS)
    with Attachment(wan, [learner.live_adapters()]) as attachment:
        learner.step(attachment)
        before = {key: value.clone() for key, value in learner.state().items()}
        learner._examples[0].latents.fill_(float("nan"))
        learner._examples[1].latents.fill_(float("nan"))
        with pytest.raises(LearningError, match=r"nan at step 2\. Lower the learning rate"):
            learner.step(attachment)
    assert learner.done == 1
    for key, value in learner.state().items():
        assert torch.equal(value, before[key]), key


def test_saved_progress_of_other_settings_is_refused(wan: Backbone):
    one = ConceptLearner(wan, examples(), "rex", "subject", "dog", SETTINGS)
    other = ConceptLearner(wan, examples(), "rex", "subject", "dog", replace(SETTINGS, rank=3))
    with pytest.raises(LearningError, match="start afresh"):
        other.load_state(one.state())


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([], "subject", "at least one picture or clip"),
        (examples(1, frames=1), "motion", "clips of at least 5 frames"),
        (examples(1, caption="a dog runs"), "subject", "write <rex> in it"),
    ],
)
def test_bad_lessons_are_refused(wan: Backbone, given: list[Example], kind: str, message: str):
    with pytest.raises(LearningError, match=message):
        ConceptLearner(wan, given, "rex", kind, "dog", SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"rank": 0}, {"rank": 1000}, {"lr": 0.0}, {"lr": float("nan")}, {"batch": 0}, {"retention": -1.0},
     {"retention": float("inf")}, {"time_shift": 0.0}, {"time_spread": 0.0}, {"appearance_share": 2.0},
     {"still_frames": 0}],
)  # fmt: skip
def test_bad_settings_are_refused(bad: dict):
    with pytest.raises(CCVDError, match=next(iter(bad))):
        LearningSettings(**bad)


def test_pictures_and_clips_can_be_mixed(wan: Backbone):
    mixed = [*examples(1, frames=1), *examples(1, frames=3)]
    learner = ConceptLearner(wan, mixed, "rex", "subject", "dog", replace(SETTINGS, steps=6))
    with Attachment(wan, [learner.live_adapters()]) as attachment:
        for _ in range(6):
            learner.step(attachment)
    assert learner.concept().settings["steps_done"] == 6


def test_what_learning_needs_is_counted_before_it_starts(wan: Backbone):
    need = learning_need(wan, "subject", 2, (4, 3, 4, 6), 2, 4)
    learner = ConceptLearner(wan, examples(), "rex", "subject", "dog", SETTINGS)
    real = sum(value.numel() for key, value in learner.state().items() if key.endswith((".a", ".b")) or key == "tokens")
    assert need.parameters == real and need.state_bytes == 16 * real and need.activation_bytes > 0
    check_fits(need, need.total_bytes)
    with pytest.raises(LearningError, match=r"needs about .* GB .* Use smaller pictures or fewer frames"):
        check_fits(need, need.total_bytes - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_settings_are_those_of_the_bases_own_preset(wan: Backbone, kind: Kind):
    settings, preset = usual_settings(wan, kind), wan.presets[KINDS[kind].preset]
    assert {name: getattr(settings, name) for name in preset.numbers()} == preset.numbers()
    assert wan.video.makes(settings.still_frames)
    other = copy.copy(wan)
    other.presets = {"appearance": replace(preset, steps=7), "motion": replace(preset, steps=7)}
    assert usual_settings(other, kind).steps == 7, "whatever the model's width"


def test_a_base_says_what_it_makes(backbones: dict[str, Backbone], unets: dict[str, Backbone]):
    assert unets["unet"].video == VideoForm(8.0, 16, 256 * 256, 1)
    backbone = backbones["comfy"]
    demo, full = VideoForm(8.0, 9, 128 * 128, 4, "emoji on plain backgrounds"), VideoForm(16.0, 33, 500 * 500, 4)
    assert backbone.video == backbones["diffusers"].video == demo
    assert wan_family(16, 1536).video == wan_family(16, 5120).video == full
    assert wan_family(48, 3072).video.rate == 24.0, "Wan 2.2 5B"
    assert wan_family(48, 192).video.rate == 8.0, "narrower than any Wan"
    assert wan_family(16, 1536).presets["appearance"].lr == 1e-4 and backbone.presets["appearance"].lr == 1e-3


def test_media_and_still_clips_are_checked_against_the_model_that_learns(wan: Backbone):
    """Another model makes any number of frames, and shows a motion in two."""
    free = copy.copy(wan)
    free.video = replace(wan.video, frame_step=1)
    eight = replace(SETTINGS, still_frames=8)
    with pytest.raises(CCVDError, match=r"still_frames must be 1, 5, 9, 13, \.\.\. \(4k \+ 1\) on this model; got 8"):
        ConceptLearner(wan, examples(), "rex", "subject", "dog", eight)
    assert ConceptLearner(free, examples(), "rex", "subject", "dog", eight).done == 0
    for backbone, least in ((wan, 5), (free, 2)):
        with pytest.raises(LearningError, match=f"clips of at least {least} frames; got one of 1"):
            ConceptLearner(backbone, [*examples(), *examples(1, frames=1)], "rex", "motion", "dog", SETTINGS)


def test_a_named_concept_acts_alone_and_a_plain_prompt_not_at_all(wan: Backbone):
    rex, max_ = learned(wan, "rex"), learned(wan, "max", replace(SETTINGS, seed=3))
    named = aggregate(wan, "a <rex> runs", [rex, max_])
    assert named.prompt.weights[:, 0].eq(1).all() and not named.prompt.weights[:, 1].any()
    assert named.prompt.gates[:, 0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert named.prompt.placed[0].rows == (1,)
    assert aggregate(wan, "a dog runs", [rex, max_]).prompt.is_plain
    assert aggregate(wan, "a dog runs", []).prompt.is_plain


def test_all_participants_are_scored_against_the_class_words(wan: Backbone):
    rex = learned(wan, "rex")
    everyone = AggregationSettings(participants="all")
    assert aggregate(wan, "a dog runs", [rex], everyone).prompt.weights.max() < 0.01, "a plain dog is not rex"
    assert aggregate(wan, "a <rex> runs", [rex], everyone).relevances.gt(0.99).all()


def test_strength_scales_adapters_and_tokens(wan: Backbone):
    rex = learned(wan, "rex")
    half = aggregate(wan, "a <rex> runs", [rex], strengths={"rex": 0.5}).prompt
    assert half.weights.eq(0.5).all()
    torch.testing.assert_close(half.placed[0].values, 0.5 * rex.tokens)
    assert not aggregate(wan, "a <rex> runs", [rex], strengths={"rex": 0.0}).prompt.placed[0].values.any()


def test_unknown_concepts_are_refused_by_name(wan: Backbone):
    rex = learned(wan, "rex", replace(SETTINGS, steps=1))
    with pytest.raises(UnknownConceptError, match=r"<max>.*<rex>"):
        aggregate(wan, "a <max>", [rex])


def test_a_fingerprint_survives_rounding_but_not_another_model(wan: Backbone):
    base = wan.fingerprint
    rounded = BaseFingerprint(base.architecture, tuple(round(value, 2) for value in base.signature))
    other = BaseFingerprint(base.architecture, tuple(value + 0.5 for value in base.signature))
    assert base.matches(rounded) and not base.matches(other)
