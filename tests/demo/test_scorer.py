"""The scorer on clips whose truth is known: clean ones, and softened and noisy ones in place of a VAE's output."""

import numpy as np
import pytest
import torch
import world
from scorer import Score, Scorer, name_motion
from sprite_templates import restyle
from torch import Tensor
from torch.nn import functional
from world import Actor, Scene


@pytest.fixture(scope="module")
def reader() -> Scorer:
    return Scorer()


def as_clip(scene: Scene) -> Tensor:
    return torch.from_numpy(scene.render()).float() / 255


def soften(clip: Tensor, sigma: float, noise: float, seed: int) -> Tensor:
    """Gaussian blur of `sigma` pixels and white noise; sigma 1.2 and noise 0.025 leave about 28 dB, as the VAE does."""
    offsets = torch.arange(-4, 5).float()
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 9)
    picture = functional.pad(clip.permute(0, 3, 1, 2), [4] * 4, mode="replicate")
    picture = functional.conv2d(functional.conv2d(picture, kernel, groups=3), kernel.mT, groups=3)
    picture = picture + noise * torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return picture.clamp(0, 1).permute(0, 2, 3, 1)


def every_subject_and_motion(seed: int, share: int = 1) -> list[Scene]:
    """One random one-actor scene per (subject, motion), or every `share`-th of them, over all backgrounds."""
    rng = np.random.default_rng(seed)
    pairs = [(subject, motion) for subject in world.SUBJECTS for motion in world.MOTIONS][::share]
    return [world.random_scene(rng, 1, (subject,), (motion,)) for subject, motion in pairs]


def accuracy(scores: list[Score]) -> dict[str, float]:
    return {
        name: float(np.mean([getattr(score, name) for score in scores]))
        for name in ("object", "motion", "background", "style")
    }


@pytest.mark.parametrize(("sigma", "noise"), [(0.1, 0.0), (1.2, 0.025)], ids=["clean", "softened"])
def test_one_object_of_every_subject_and_motion(reader: Scorer, sigma: float, noise: float) -> None:
    scenes = every_subject_and_motion(seed=0)
    scores = [reader.score(soften(as_clip(scene), sigma, noise, i), scene) for i, scene in enumerate(scenes)]
    assert min(accuracy(scores).values()) >= 0.99, accuracy(scores)


@pytest.mark.parametrize("style", world.HELD_OUT_STYLES)
def test_one_object_in_every_style(reader: Scorer, style: str) -> None:
    scenes = [Scene(s.actors, s.background, style) for s in every_subject_and_motion(seed=1, share=5)]
    scores = [reader.score(soften(as_clip(scene), 1.0, 0.02, i), scene) for i, scene in enumerate(scenes)]
    assert min(accuracy(scores).values()) >= 0.96, accuracy(scores)  # 29 scenes: one may be wrong


def test_two_objects(reader: Scorer) -> None:
    rng = np.random.default_rng(2)
    scenes = [world.random_scene(rng, 2, world.SUBJECTS, world.MOTIONS) for _ in range(80)]
    scores = [reader.score(soften(as_clip(scene), 1.2, 0.025, i), scene) for i, scene in enumerate(scenes)]
    assert min(accuracy(scores).values()) >= 0.95, accuracy(scores)


@pytest.mark.parametrize("actors", [3, 4])
def test_crowds(reader: Scorer, actors: int) -> None:
    rng = np.random.default_rng(actors)
    scenes = [world.random_scene(rng, actors, world.SUBJECTS) for _ in range(10)]
    scores = [reader.score(soften(as_clip(scene), 1.2, 0.025, i), scene) for i, scene in enumerate(scenes)]
    assert accuracy(scores)["object"] >= 0.9


def test_an_empty_clip_gives_no_finding(reader: Scorer) -> None:
    for background in world.BACKGROUNDS:
        for style in world.STYLES:
            clip = soften(as_clip(Scene((), background, style)), 1.2, 0.025, 0)
            reading = reader.read(clip)
            assert (reading.background, reading.style, reading.actors) == (background, style, ())


def test_no_second_sprite_is_seen_where_there_is_one(reader: Scorer) -> None:
    for scene in every_subject_and_motion(seed=3, share=7):
        found = reader.find(soften(as_clip(scene)[:1], 1.2, 0.025, 0)[0])
        assert [f.subject for f in found] == [scene.actors[0].subject]


def test_found_place_and_size(reader: Scorer) -> None:
    """Places lie on a grid of 2 pixels and sizes on one of 2, so both are within 2 of the truth."""
    for scene in every_subject_and_motion(seed=4, share=7):
        (actor,) = scene.actors
        (found,) = reader.find(as_clip(scene)[0], most=1)
        assert np.abs(np.subtract(found.centre, actor.start)).max() <= 2
        assert abs(found.size - actor.size) <= 3
        assert found.match >= 0.8


@pytest.mark.parametrize(
    ("shown", "claimed"), [("wolf", "raccoon"), ("raccoon", "wolf"), ("orange", "basketball"), ("fox", "dog")]
)
def test_lookalikes_are_told_apart(reader: Scorer, shown: str, claimed: str) -> None:
    clip = soften(as_clip(Scene((Actor(shown, "moving up", 56.0, (64.0, 90.0)),), "pink wall")), 1.5, 0.03, 0)
    score = reader.score_caption(clip, [claimed], ["moving up"], "pink wall")
    assert score == Score(object=False, motion=True, background=True, style=True)


@pytest.mark.parametrize(
    ("subject", "motion", "background", "style", "expected"),
    [
        ("dog", "moving left", "green grass", "plain", Score(True, True, True, True)),
        ("cat", "moving left", "green grass", "plain", Score(False, True, True, True)),
        ("dog", "still", "green grass", "plain", Score(True, False, True, True)),
        ("dog", "moving right", "green grass", "plain", Score(True, False, True, True)),
        ("dog", "moving left", "blue sky", "plain", Score(True, True, False, True)),
        ("dog", "moving left", "green grass", "noir", Score(True, True, True, False)),
    ],
)
def test_each_wrong_word_of_a_caption_costs_its_own_point(
    reader: Scorer, subject: str, motion: str, background: str, style: str, expected: Score
) -> None:
    clip = as_clip(Scene((Actor("dog", "moving left", 56.0, (90.0, 64.0)),), "green grass"))
    assert reader.score_caption(clip, [subject], [motion], background, style) == expected


def test_two_objects_with_their_motions_swapped_are_wrong(reader: Scorer) -> None:
    cast = (Actor("cat", "still", 50.0, (30.0, 30.0)), Actor("car", "moving right", 50.0, (40.0, 95.0)))
    clip = as_clip(Scene(cast, "yellow sand"))
    assert reader.score_caption(clip, ["car", "cat"], ["moving right", "still"], "yellow sand").all
    swapped = reader.score_caption(clip, ["car", "cat"], ["still", "moving right"], "yellow sand")
    assert swapped == Score(object=True, motion=False, background=True, style=True)


def test_a_missing_actor_and_an_identity_that_changes_are_wrong(reader: Scorer) -> None:
    cast = (Actor("cat", "still", 50.0, (30.0, 30.0)), Actor("car", "still", 50.0, (95.0, 95.0)))
    alone, both = as_clip(Scene(cast[:1], "blue sky")), as_clip(Scene(cast, "blue sky"))
    assert not reader.score_caption(alone, ["cat", "car"], ["still", "still"], "blue sky").object
    halves = torch.cat([both[:5], alone[5:]])
    assert not reader.score_caption(halves, ["cat", "car"], ["still", "still"], "blue sky").object


@pytest.mark.parametrize("motion", world.MOTIONS)
def test_a_path_is_named_after_its_motion(motion: str) -> None:
    path = 30 * world.motion_path(motion, world.FRAMES) + np.random.default_rng(0).normal(0, 2, (world.FRAMES, 2))
    assert name_motion(path) == motion


def test_a_short_path_is_still() -> None:
    right = world.motion_path("moving right", world.FRAMES)
    assert name_motion(6 * right) == "still"
    assert name_motion(10 * right) == "moving right"


def test_restyle_is_the_worlds_own() -> None:
    """The float version agrees with the uint8 one to its rounding, one level of 255."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    for style in world.STYLES:
        ours = restyle(torch.from_numpy(picture / 255.0).float().permute(0, 3, 1, 2), style)
        expected = world.apply_style(picture, style)
        np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy() * 255, expected, atol=1.01)


def test_integer_clips_are_refused(reader: Scorer) -> None:
    with pytest.raises(ValueError, match="expected a float clip"):
        reader.read(torch.zeros(9, 128, 128, 3, dtype=torch.uint8))
