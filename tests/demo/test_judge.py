"""The judge sees what was drawn, and is fooled neither by a wrong caption nor by blur."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from base import KNOWN
from evaluate import METRICS, SPLITS, contact_sheet, evaluation_scenes, means, measured, splits_of, write_csv
from number_types import number_type
from PIL import Image
from torch import Tensor
from torch.nn import functional
from world.judge import energy, score
from world.motions import HELD_OUT_MOTIONS, MOTIONS, course, motion_named
from world.reader import name_motion
from world.scenes import EVERYTHING, FRAMES, Actor, Scene, combination, for_evaluation, random_scene
from world.subjects import Look, Subject, held_out_subject

DOG = Actor(
    Subject("dog", "members/twemoji_1f436", Look(mirrored=True, hue=0.02, aspect=0.95)), "moving right", 56, (40, 60)
)
CAR = Actor(Subject("car", "members/noto_1f697"), "growing", 48, (92, 92), 0.44)


def clip_of(scene: Scene) -> Tensor:
    return torch.from_numpy(scene.render()).float() / 255


def blurred(clip: Tensor) -> Tensor:
    frames = clip.permute(0, 3, 1, 2)
    return functional.avg_pool2d(frames, 5, 1, 2, count_include_pad=False).permute(0, 2, 3, 1)


@pytest.mark.parametrize("style", ["plain", "sepia", "pixel", "noir"])
def test_a_clip_that_shows_its_scene_is_right_in_everything(style: str):
    scene = Scene((DOG,), "red bricks", style)
    found = score(clip_of(scene), scene, lambda clips: clips)
    assert (found.object, found.motion, found.speed, found.background, found.style) == (True,) * 5
    assert found.crispness == pytest.approx(1.0, abs=0.15)


def test_two_actors_are_told_apart():
    scene = Scene((DOG, CAR), "green grass")
    found = score(clip_of(scene), scene)
    assert found.object and found.motion
    swapped = Scene((replace(DOG, motion="growing"), replace(CAR, motion="moving right")), "green grass")
    assert not score(clip_of(scene), swapped).motion


@pytest.mark.parametrize(
    ("wrong", "metric"),
    [
        ({"actors": (replace(DOG, subject=Subject("cat", "members/noto_1f431")),)}, "object"),
        ({"actors": (replace(DOG, motion="moving left"),)}, "motion"),
        ({"actors": (replace(DOG, speed="quickly"),)}, "speed"),
        ({"background": "blue sky"}, "background"),
        ({"style": "emerald"}, "style"),
    ],
)
def test_what_the_caption_has_wrong_is_found(wrong: dict, metric: str):
    scene = Scene((DOG,), "yellow sand")
    found = score(clip_of(scene), replace(scene, **wrong))
    assert not getattr(found, metric)
    assert {name for name in ("object", "motion", "background", "style") if not getattr(found, name)} <= {metric}


def test_who_turns_into_another_is_not_right():
    dog, cat = (
        Scene((replace(DOG, subject=Subject(*who)),), "yellow sand")
        for who in (
            ("dog", "members/noto_1f436"),
            ("cat", "members/noto_1f431"),
        )
    )
    both = torch.cat([clip_of(dog)[:5], clip_of(cat)[5:]])
    assert not score(both, dog).object


def test_a_held_out_subject_is_known_by_its_name():
    fox = replace(DOG, subject=held_out_subject("fox"))
    scene = Scene((fox,), "blue sky")
    assert score(clip_of(scene), scene).object
    assert not score(clip_of(scene), Scene((DOG,), "blue sky")).object


def test_blur_is_not_crisp():
    scene = Scene((DOG,), "blue sky")
    sharp, soft = (score(clip, scene, lambda clips: clips) for clip in (clip_of(scene), blurred(clip_of(scene))))
    assert sharp.crispness is not None and soft.crispness is not None
    assert soft.crispness < 0.5 * sharp.crispness
    assert soft.object, "blur is judged by crispness, not by identity"


def test_nothing_there_is_nothing_right():
    scene = Scene((DOG,), "blue sky")
    found = score(clip_of(replace(scene, actors=())), scene, lambda clips: clips)
    assert not found.object and not found.motion and found.background and found.crispness is None
    assert means([found])["crispness"] == 0.0


@pytest.mark.parametrize("motion", [*MOTIONS, *HELD_OUT_MOTIONS])
def test_every_motion_and_speed_is_named_by_its_course(motion: str):
    rng = np.random.default_rng(len(motion))
    for speed, amounts in motion_named(motion).amounts.items():
        moves = course(motion, float(rng.uniform(*amounts)), FRAMES)
        poses = np.stack([60 + moves.x, 70 + moves.y, 50 * moves.scale, moves.turn], -1)
        poses += rng.normal(0, [0.8, 0.8, 0.8, 4.0], poses.shape)
        poses[:, 3] -= poses[0, 3]
        assert name_motion(poses) == (motion, speed)


def test_energy_is_the_mean_squared_difference_of_neighbours():
    ramp = torch.arange(4.0)[None, :, None].expand(3, 4, 3)
    assert float(energy(ramp)) == 1.0


@pytest.mark.parametrize("split", list(SPLITS))
def test_evaluation_scenes_are_the_ones_that_training_leaves_out(split: str):
    scenes = evaluation_scenes(SPLITS[split], 6, EVERYTHING)
    assert all(map(for_evaluation, scenes))
    assert {len(scene.actors) for scene in scenes} == {SPLITS[split].actors}
    assert {scene.style != "plain" for scene in scenes} == {SPLITS[split].styled == 1.0}


def test_a_perfect_model_scores_one_and_an_empty_one_zero(tmp_path: Path):
    truth = {s.caption(): s for split in splits_of(KNOWN) for s in evaluation_scenes(SPLITS[split], 4)}

    def draw(captions: list[str], seeds: list[int]) -> Tensor:
        return torch.stack([clip_of(truth[caption]) for caption in captions])

    value = measured(draw, torch.zeros_like, captions=4)
    assert all(value["one_object", metric] == 1 for metric in METRICS[:-1])
    # Two that pass close to each other are not always told apart: the ceiling says how often.
    assert all(value["two_objects", metric] >= 0.75 for metric in METRICS[:-1])
    assert all(value[f"ceiling_{split}", "object"] == 0 for split in splits_of(KNOWN))
    write_csv(value, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text().splitlines()[:2] == [
        "split,metric,value,number_type",
        f"one_object,object,1.0000,{number_type()}",
    ]


def test_a_fifth_of_the_combinations_of_one_actor_is_for_evaluation_whatever_their_order():
    rng = np.random.default_rng(0)
    assert 0.15 < np.mean([for_evaluation(random_scene(rng)) for _ in range(400)]) < 0.25
    pair = Scene((DOG, CAR), "green grass")
    assert combination(pair) == combination(replace(pair, actors=(CAR, DOG)))


def test_scenes_say_no_more_than_is_known():
    rng = np.random.default_rng(1)
    known = {word for text in (*KNOWN.words, *KNOWN.motions, *KNOWN.backgrounds) for word in text.split()}
    said = {word for _ in range(60) for word in random_scene(rng, 2, KNOWN, styled=0.0).caption().split()}
    assert said <= known | {"a", "and", "on", "in", "plain", "style"}


def test_a_contact_sheet_has_three_frames_per_clip(tmp_path: Path):
    scenes = evaluation_scenes(SPLITS["two_objects"], 4)
    clips = torch.stack([clip_of(scene) for scene in scenes])
    contact_sheet(clips, [scene.caption() for scene in scenes], tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width >= 2 * 3 * 128 and picture.height >= 2 * 128
    with pytest.raises(ValueError, match="one caption per clip, got 3 captions for 4 clips"):
        contact_sheet(clips, ["a"] * 3, tmp_path / "sheet.png")
