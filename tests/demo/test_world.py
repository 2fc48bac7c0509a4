"""The world: rich enough to learn from, and what is held out stays out of every training."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch
from base import load_base
from latents import training_scenes
from text import TEXT_ROWS, encode, tokenize, train_tokenizer, world_words
from train_base import deeper, respelled
from train_vae import other_emoji
from world.backgrounds import BACKGROUNDS, SIZE, background_image
from world.motions import HELD_OUT_MOTIONS, MOTIONS, course, motion_named
from world.scenes import FRAMES, SIZES, Actor, Scene, collide, for_evaluation, random_scene
from world.styles import HELD_OUT_STYLES, STYLES, apply_style
from world.subjects import (
    CLASSES,
    COLOURS,
    HELD_OUT,
    SPRITES,
    Look,
    Subject,
    held_out_subject,
    load_sprite,
    members,
    varied,
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [random_scene(rng, 1 + index % 4) for index in range(60)]


def picture_of(file: str) -> str:
    return hashlib.sha256(load_sprite(file).tobytes()).hexdigest()


def test_there_are_many_of_everything():
    everyone = {member.file for word in CLASSES for member in members(word)}
    assert len(everyone) >= 150 and len(CLASSES) >= 30
    assert len({picture_of(file) for file in everyone}) == len(everyone), "no drawing stands for two members"
    assert min(len(members(word)) for word in CLASSES) >= 3
    assert len(STYLES) >= 9 and len(HELD_OUT_STYLES) == 5
    assert len(MOTIONS) >= 10 and len(HELD_OUT_MOTIONS) == 5
    assert all(len(motion.amounts) == 3 for name, motion in MOTIONS.items() if name != "still")
    assert len(BACKGROUNDS) >= 12 and sum(b.texture is not None for b in BACKGROUNDS.values()) >= 5
    assert len(HELD_OUT) >= 16


def test_no_training_sees_a_held_out_drawing():
    held_out = {picture_of(held_out_subject(name).file) for name in HELD_OUT}
    seen = {picture_of(file) for file in other_emoji()} | {
        picture_of(m.file) for word in CLASSES for m in members(word)
    }
    assert len(held_out) == len(HELD_OUT)
    assert not held_out & seen
    points = {point for point, _ in HELD_OUT.values()}
    used = {path.stem.split("_")[-1] for path in (SPRITES / "members").glob("*.png")}
    assert not points & used, "nor the same thing drawn by another set"
    assert not points & {path.stem for path in (SPRITES / "texture").glob("*.png")}


def test_training_leaves_out_the_combinations_of_the_evaluation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("latents.SHARD", 40)
    scenes = training_scenes(3, 0)
    assert len(scenes) == 40 and not any(map(for_evaluation, scenes))
    assert [scene.caption() for scene in training_scenes(3, 1)] != [scene.caption() for scene in scenes]
    assert not {scene.style for scene in scenes} & set(HELD_OUT_STYLES)
    assert not {actor.motion for scene in scenes for actor in scene.actors} & set(HELD_OUT_MOTIONS)
    assert not {actor.subject.word for scene in scenes for actor in scene.actors} & set(HELD_OUT)


def test_actors_stay_in_the_frame_and_apart(scenes: list[Scene]):
    for scene in scenes:
        for actor in scene.actors:
            path = actor.placed()
            half = 0.96 * path[:, 2:3].max() / 2
            assert (path[:, :2] >= half - 1e-6).all() and (path[:, :2] <= SIZE - half + 1e-6).all()
        assert not collide(scene.actors, 0.42)


def test_captions_tell_the_truth(scenes: list[Scene]):
    said = set()
    for scene in scenes:
        caption = scene.caption()
        assert scene.style == "plain" or caption.endswith(f"in {scene.style} style")
        for actor in scene.actors:
            low, high = SIZES[len(scene.actors)]
            for word in actor.words:
                said.add(word)
                if word in COLOURS:
                    assert actor.subject.colour() == word
                else:
                    assert word == ("small" if actor.size < (low + high) / 2 else "large")
    assert said & set(COLOURS) and said & {"small", "large"}, "describing words come up"


@pytest.mark.parametrize(
    ("file", "colour"),
    [
        ("members/noto_1f438", "green"),
        ("members/noto_2764-fe0f", "red"),
        ("members/noto_1f499", "blue"),
        ("members/twemoji_1f437", "pink"),
        ("members/noto_2b50", "yellow"),
        ("members/noto_1f43b", "brown"),
        ("members/noto_1f43c", None),
    ],
)
def test_the_colour_of_a_sprite_is_what_most_of_it_has(file: str, colour: str | None):
    assert Subject("it", file).colour() == colour


def test_a_look_changes_the_drawing_and_nothing_beside_it():
    file = "members/noto_1f436"
    mirrored = np.asarray(varied(file, Look(mirrored=True)))
    assert np.array_equal(mirrored[:, ::-1], np.asarray(load_sprite(file)))
    redder = np.asarray(varied(file, Look(hue=-0.03, saturation=1.1)))
    assert np.array_equal(redder[..., 3], np.asarray(load_sprite(file))[..., 3])
    assert np.abs(redder.astype(int) - np.asarray(load_sprite(file)).astype(int)).max() > 10


@pytest.mark.parametrize("motion", [*MOTIONS, *HELD_OUT_MOTIONS])
def test_what_is_drawn_moves_as_the_motion_says(motion: str):
    amount = sum(motion_named(motion).amounts[""]) / 2
    heart = Subject("heart", "members/noto_2764-fe0f")
    scene = Scene((Actor(heart, motion, 44, (64, 64), amount),), "dark night")
    moves = course(motion, amount, FRAMES)
    drawn = scene.render().astype(float) - background_image("dark night").astype(float)
    there = np.abs(drawn).sum(-1) > 60
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    middle = np.stack([(there * axis).sum((1, 2)) / there.sum((1, 2)) for axis in (columns, rows)], -1)
    travelled = middle - middle[0] - (np.stack([moves.x, moves.y], -1) - [moves.x[0], moves.y[0]])
    # A heart's middle of mass is not its box's: it circles by a few pixels when it turns or grows.
    assert np.abs(travelled).max() < (8.0 if np.ptp(moves.turn) or np.ptp(moves.scale) else 0.5)
    area = np.sqrt(there.sum((1, 2)) / there[0].sum())
    assert np.abs(area - moves.scale / moves.scale[0]).max() < 0.05


def test_a_turn_is_clockwise():
    heart = Subject("heart", "members/noto_2764-fe0f")
    scene = Scene((Actor(heart, "spinning", 60, (64, 64), 90.0),), "dark night")
    first, last = (scene.render()[index].astype(int) for index in (0, -1))
    assert np.abs(np.rot90(first, -1)[34:94, 34:94, 0] - last[34:94, 34:94, 0]).mean() < 12


@pytest.mark.parametrize("style", [*STYLES, *HELD_OUT_STYLES])
def test_styles_keep_shape_and_differ(style: str, scenes: list[Scene]):
    plain = replace(scenes[1], style="plain").render(2)
    drawn = apply_style(plain, style)
    assert drawn.shape == plain.shape and drawn.dtype == np.uint8
    if style != "plain":
        assert np.abs(drawn.astype(int) - plain.astype(int)).mean() > 2


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="unknown style 'cubist'"):
        apply_style(np.zeros((1, 8, 8, 3), np.uint8), "cubist")


def test_every_word_of_the_world_is_one_piece_and_captions_fit(scenes: list[Scene]):
    tokenizer = train_tokenizer()
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    assert [word for word in world_words() if len(processor.encode(word)) != 1] == []
    assert max(len(processor.encode(scene.caption())) + 1 for scene in scenes) <= TEXT_ROWS


@torch.no_grad()
def test_a_deeper_model_begins_as_the_same_function_and_respelled_words_as_what_they_were():
    base = load_base()
    layers = len(base.transformer.blocks) + 2
    model = deeper(base.transformer, layers, (2, 5))
    generator = torch.Generator().manual_seed(0)
    latents, context = (torch.randn(1, *shape, generator=generator) for shape in ((16, 1, 4, 4), (32, 192)))
    inputs = (latents, torch.tensor([400.0]), context)
    assert torch.equal(model(*inputs, return_dict=False)[0], base.transformer(*inputs, return_dict=False)[0])
    assert len(model.blocks) == layers
    tokenizer = train_tokenizer()
    caption = ["a dog moving right on green grass"]
    before = encode(base.encoder, tokenize(base.tokenizer, caption))
    after = encode(respelled(base, tokenizer), tokenize(tokenizer, caption))
    assert (after - before).abs().max() < 0.05 * before.abs().max()
