"""The evaluation with samplers that cheat: one that draws the truth, one that draws nothing."""

from pathlib import Path

import evaluate
import numpy as np
import splits
import world
from number_types import number_type
from PIL import Image
from world import Actor, Scene


def test_a_perfect_sampler_scores_one_and_an_empty_one_zero(tmp_path: Path) -> None:
    truth = {s.caption(): s for actors in (1, 2) for s in evaluate.held_out_scenes(6, actors)}

    def draw(captions: list[str], seeds: list[int]) -> np.ndarray:
        return np.stack([truth[caption].render() for caption in captions])

    rows = evaluate.evaluate(draw, lambda clips: np.zeros_like(clips), captions_per_split=6)
    value = {(row.split, row.metric): row.value for row in rows}
    assert all(value[split, metric] == 1 for split in evaluate.SPLITS for metric in evaluate.METRICS)
    assert all(value[f"ceiling_{split}", "object"] == 0 for split in evaluate.SPLITS)
    evaluate.write_csv(rows, tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text().splitlines()[:2] == [
        "split,metric,value,number_type",
        f"one_object,object,1.0000,{number_type()}",
    ]


def test_held_out_scenes_are_held_out_and_repeatable() -> None:
    for actors in (1, 2):
        scenes = evaluate.held_out_scenes(20, actors)
        assert all(splits.held_out(scene) for scene in scenes)
        assert scenes == evaluate.held_out_scenes(20, actors)


def test_a_fifth_of_the_one_actor_combinations_is_held_out_whatever_the_order_of_actors() -> None:
    def scene(*cast: tuple[str, str], background: str) -> Scene:
        return Scene(tuple(Actor(subject, motion, 50.0, (0.0, 0.0)) for subject, motion in cast), background)

    every = [
        splits.held_out(scene((subject, motion), background=background))
        for subject in world.BASE_SUBJECTS
        for motion in world.BASE_MOTIONS
        for background in world.BACKGROUNDS
    ]
    assert 0.15 < np.mean(every) < 0.25
    one, other = ("dog", "still"), ("cat", "moving up")
    for background in world.BACKGROUNDS:
        pair = scene(one, other, background=background)
        assert splits.combination(pair) == splits.combination(scene(other, one, background=background))
        assert splits.held_out(pair) == splits.held_out(scene(other, one, background=background))


def test_contact_sheet_has_three_frames_per_clip(tmp_path: Path) -> None:
    scenes = evaluate.held_out_scenes(4, 2)
    clips = np.stack([scene.render() for scene in scenes])
    evaluate.contact_sheet(clips, [scene.caption() for scene in scenes], tmp_path / "sheet.png", columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 2 * 3 * world.SIZE
        assert sheet.height >= 2 * world.SIZE
