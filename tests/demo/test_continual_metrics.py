"""The continual benchmark's judges, on real clips whose truth is known, and CLIP and DINO as tiny random models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder import ContrastiveEncoder, load_encoder
from encoder_data import Pool, attribute, caption_with, render, same, scenes, still_caption
from external_encoders import ClipEncoder, DinoEncoder
from lessons import LessonPlan
from metrics import Encoder, Judge, measure, temporal_consistency
from scene_parts import PARTS
from stand_ins import write_stand_ins
from torch import Tensor
from train_encoder import LOOK_ALIKES, accuracy
from transformers import CLIPModel
from world.scenes import EVERYTHING, FRAMES, Scene

REX = LessonPlan("rex", "subject", "fox", "dog")
HOP = LessonPlan("hop", "motion", "hopping", "moving up")
NOIR = LessonPlan("noir", "style", "noir", "plain")
RELATED = {"rex": ("subject", "dog"), "hop": ("motion", "moving up"), "noir": ("style", "plain")}


@pytest.fixture(scope="module")
def encoder() -> ContrastiveEncoder:
    return load_encoder()


def concept_scenes(plan: LessonPlan, count: int = 2) -> list[Scene]:
    """On one background, because the judge draws its templates anew for every other one."""
    rng = np.random.default_rng(5)
    return [replace(plan.scene(rng, True, EVERYTHING), background="green grass") for _ in range(count)]


def related(plan: LessonPlan, chosen: list[Scene]) -> list[Scene]:
    """The same scenes with the concept's related base object, motion or style in its place."""
    kind, value = RELATED[plan.name]
    rng = np.random.default_rng(6)
    return [PARTS[kind].changed(rng, scene, value) for scene in chosen]


@pytest.mark.parametrize("soft", [False, True])
def test_the_encoder_reads_captions_it_was_not_trained_on(encoder: ContrastiveEncoder, soft: bool) -> None:
    chosen = scenes(seed=44_000, count=60, for_report=True)
    clips = render(chosen)
    if soft:
        small = Pool(chosen, torch.Generator().manual_seed(0)).soften(torch.arange(60))
        clips = small.add(1).div(2).clamp(0, 1).permute(0, 1, 3, 4, 2)
    shares = accuracy(encoder, clips, chosen)
    floors = {"subject": 0.4, "motion": 0.8, "background": 0.85, "style": 0.85, "look_alikes": 0.8}
    assert {kind for kind, floor in floors.items() if shares[kind] < floor} == set(), shares


@pytest.mark.parametrize("pair", LOOK_ALIKES)
def test_look_alikes_are_told_apart_by_identity(encoder: ContrastiveEncoder, pair: tuple[str, str]) -> None:
    shown, other = pair
    plan = LessonPlan("it", "subject", shown, "ball")
    chosen = concept_scenes(plan)
    rng = np.random.default_rng(6)
    swapped = [PARTS["subject"].changed(rng, scene, other) for scene in chosen]
    judge = Judge([encoder])
    right, wrong = judge.judge(plan, render(chosen), chosen), judge.judge(plan, render(swapped), chosen)
    assert right["identity"] == 1 and wrong["identity"] == 0
    assert right["identity_contrastive"] > wrong["identity_contrastive"] + 0.05
    assert right["text_alignment_contrastive"] > wrong["text_alignment_contrastive"]


@pytest.mark.parametrize("plan", [REX, HOP, NOIR], ids=lambda plan: plan.kind)
def test_the_concept_scores_above_its_related_base_object(encoder: ContrastiveEncoder, plan: LessonPlan) -> None:
    chosen = concept_scenes(plan)
    judge = Judge([encoder])
    right = judge.judge(plan, render(chosen), chosen)
    wrong = judge.judge(plan, render(related(plan, chosen)), chosen)
    assert right["identity"] == 1 and wrong["identity"] == 0
    assert right["text_alignment"] == 1 and wrong["text_alignment"] == 1
    assert right["identity_contrastive"] > wrong["identity_contrastive"] + 0.05
    assert right["text_alignment_contrastive"] > wrong["text_alignment_contrastive"] + 0.05
    assert right.keys() == {
        "identity", "text_alignment",
        "identity_contrastive", "text_alignment_contrastive", "temporal_consistency_contrastive",
    }  # fmt: skip


def test_identity_of_a_motion_is_of_clips_and_of_a_subject_of_frames(encoder: ContrastiveEncoder) -> None:
    """The definitions written out: one clip against itself, and frame by frame against another."""
    chosen = concept_scenes(HOP)
    clips, captions = render(chosen), [scene.caption() for scene in chosen]
    other = clips.flip(0)
    assert measure(encoder, HOP, clips, clips, captions)["identity_contrastive"] == pytest.approx(1, abs=1e-5)
    ours, theirs = encoder.embed_frames(clips), encoder.embed_frames(other)
    pairs = [float(a @ b) for one, two in zip(ours, theirs, strict=True) for a in one for b in two]
    assert len(pairs) == 2 * FRAMES**2
    assert measure(encoder, REX, clips, other, captions)["identity_contrastive"] == pytest.approx(
        np.mean(pairs), abs=1e-5
    )


def test_temporal_consistency_of_frozen_and_of_shuffled_frames(encoder: ContrastiveEncoder) -> None:
    """Frames of two scenes: shuffled together, neighbours differ; in order, only one pair of neighbours in 17 does."""
    chosen = concept_scenes(REX)
    clips = render([chosen[0], PARTS["style"].changed(np.random.default_rng(6), chosen[1], "negative")])
    frozen = encoder.embed_frames(clips[:, :1].expand(-1, FRAMES, -1, -1, -1))
    assert temporal_consistency(frozen) == pytest.approx(1, abs=1e-5)
    frames = encoder.embed_frames(clips)
    order = torch.randperm(2 * FRAMES, generator=torch.Generator().manual_seed(0))
    together = frames.flatten(0, 1)[None]
    assert temporal_consistency(together[:, order]) < temporal_consistency(together) < temporal_consistency(frames) < 1
    assert temporal_consistency(frames[:, :1]) == 1


def test_the_same_caption_is_one_scene_and_a_left_out_one_is_never_trained_on() -> None:
    trained, reported = (scenes(seed=1, count=100, for_report=value) for value in (False, True))
    assert not {same(s, moving=True) for s in trained} & {same(s, moving=True) for s in reported}
    scene = trained[0]
    moved = caption_with(scene, "motion", "still" if attribute(scene, "motion") != "still" else "zigzag")
    assert same(scene, moving=True) != same(moved, moving=True)
    assert same(scene, moving=False) == same(moved, moving=False)
    assert still_caption(scene) == still_caption(moved)
    assert same(scene, moving=True) == same(replace(scene, names_style=not scene.names_style), moving=True)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights that reads letters."""
    return write_stand_ins(tmp_path_factory.mktemp("clip"))[0]


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stand_ins(tmp_path_factory.mktemp("dino"))[1]


def unit_rows(vectors: Tensor) -> bool:
    return torch.allclose(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]), atol=1e-5)


def test_clip_and_dino_from_folders_are_judges_too(clip_folder: Path, dino_folder: Path) -> None:
    chosen = concept_scenes(REX)
    clips = render(chosen)
    clip, dino = ClipEncoder(clip_folder), DinoEncoder(dino_folder)
    encoders: list[Encoder] = [clip, dino]
    for one, width in zip(encoders, (8, 16), strict=True):
        assert one.embed_frames(clips).shape == (2, FRAMES, width) and unit_rows(one.embed_frames(clips))
        assert one.embed_clips(clips).shape == (2, width) and unit_rows(one.embed_clips(clips))
    texts = clip.embed_texts(["a fox", "a dog on green grass"])
    assert texts.shape == (2, 8) and unit_rows(texts) and not torch.allclose(texts[0], texts[1])
    values = Judge(encoders).judge(REX, clips, chosen)
    assert values.keys() == {
        "identity", "text_alignment",
        "identity_clip", "text_alignment_clip", "temporal_consistency_clip",
        "identity_dino", "temporal_consistency_dino",
    }  # fmt: skip
    assert all(-1.001 <= value <= 1.001 for value in values.values())


def test_clip_pictures_are_what_its_own_processor_makes(clip_folder: Path) -> None:
    """At the model's own size nothing is scaled: only (x - mean) / std is left, then transformers' image features."""
    from transformers import CLIPImageProcessor

    encoder = ClipEncoder(clip_folder)
    picture = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    model = CLIPModel.from_pretrained(clip_folder, local_files_only=True).eval()
    pixels = processor(images=picture.numpy(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixels).pooler_output)[0]
    ours = encoder.embed_frames(picture.float()[None, None] / 255)[0, 0]
    torch.testing.assert_close(ours, expected / expected.norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [ClipEncoder, DinoEncoder])
def test_a_folder_without_a_model_is_refused(make: type[ClipEncoder | DinoEncoder], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a folder needs config\.json"):
        make(tmp_path / "missing")


def test_bad_input_is_refused(encoder: ContrastiveEncoder) -> None:
    chosen = concept_scenes(REX)
    clips, judge = render(chosen), Judge([encoder])
    with pytest.raises(ValueError, match="float clips of shape"):
        judge.judge(REX, clips[0], chosen)
    with pytest.raises(ValueError, match="float clips of shape"):
        judge.judge(REX, (clips * 255).byte(), chosen)
    with pytest.raises(ValueError, match="2 scenes for 1 clips"):
        judge.judge(REX, clips[:1], chosen)
    with pytest.raises(ValueError, match="clips of 9 frames, got 4"):
        encoder.embed_clips(clips[:, :4])
    with pytest.raises(ValueError, match="not trained on unicorn"):
        encoder.embed_texts(["a unicorn moving left on green grass"])
    with pytest.raises(ValueError, match="different names"):
        Judge([encoder, encoder])
