"""Captions and prompts of different lengths in one batch: each row's result is what it is alone."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone, EncodedText
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.errors import CCVDError
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.losses import video_loss
from ccvd_core.learning.step import LearningSettings, draw_step
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts, rows_of_one_length
from ccvd_core.sampling import sample
from tests.backbones.conftest import encode_text
from tests.backbones.pack import from_pack

CPU = torch.device("cpu")
LONG = "a <rex> runs over very long and very green grass"
SHORT = "a <rex> runs"
NOISE = torch.randn(2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(3))
SETTINGS = LearningSettings(steps=8, rank=2, lr=1e-2, token_lr=1e-2, batch=4, seed=1)


@pytest.fixture
def uneven(backbone: Backbone, training: None) -> Backbone:
    """As the demo model's text encoder: at least 8 rows, and more for longer texts."""

    def encode(text: str) -> EncodedText:
        words = text.split()
        parts = [encode_text(" ".join(words[start : start + 7])) for start in range(0, len(words), 7)] or [
            encode_text("")
        ]
        return EncodedText(
            torch.cat([part.context for part in parts])[: max(8, len(words) + 1)],
            tuple(piece for part in parts for piece in part.pieces),
        )

    twin = copy.copy(backbone)
    twin._encode_text = encode  # type: ignore[attr-defined]
    return twin


def learner(backbone: Backbone, kind: str) -> ConceptLearner:
    examples = [Example(NOISE[0], LONG), Example(NOISE[1], SHORT)]
    student = ConceptLearner(backbone, examples, "rex", kind, "dog", SETTINGS)  # type: ignore[arg-type]
    assert {len(lesson.context) for lesson in student._examples} == {8, 11}
    with torch.no_grad():
        # From the start B and the tokens are zero: a gradient reaches A only later.
        for _, b in student._trained.adapters.values():
            b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
        tokens = student._trained.tokens
        tokens.copy_(torch.randn(tokens.shape, generator=torch.Generator().manual_seed(6)) * 0.3)
    return student


def gradients(student: ConceptLearner) -> list[Tensor]:
    parameters = [p for group in student._trained.optimizer.param_groups for p in group["params"]]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]


@pytest.mark.parametrize("kind", ["subject", "motion"])
def test_a_step_on_captions_of_two_lengths_is_the_mean_of_its_rows_alone(uneven: Backbone, kind: str):
    student = learner(uneven, kind)
    student._trained.update = lambda total, done: None  # type: ignore[method-assign]
    with Attachment(uneven, [student.live_adapters()]) as attachment:
        report = student.step(attachment)
        together = gradients(student)
        student._trained.optimizer.zero_grad()
        drawn = draw_step([lesson.latents.shape for lesson in student._examples], SETTINGS, 0)
        assert len(set(drawn.rows)) == 2, "the draw must mix both captions"
        losses = []
        for place, row in enumerate(drawn.rows):
            lesson, path = student._examples[row], uneven.noise_path
            clean, noise, t = lesson.latents[None], drawn.noise[place : place + 1], path.level(drawn.times[[place]])
            noisy, target = path.mix(clean, noise, t), path.target(clean, noise, t)
            attachment.set_adapters([student.live_adapters()])
            prompt = student.prompt(lesson)
            with attachment.activate([prompt], CPU):
                loss = video_loss(predict_prompts(uneven, noisy, t, [prompt]), target, student._kind, SETTINGS) / 4
                loss.backward()
            losses.append(loss.item())
    assert report.loss == pytest.approx(sum(losses), rel=1e-5)
    alone = gradients(student)
    assert sum(float(gradient.abs().sum()) for gradient in alone) > 0
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_checkpointing_and_several_steps_work_on_captions_of_two_lengths(uneven: Backbone):
    student = learner(uneven, "subject")
    with Attachment(uneven, [student.live_adapters()]) as attachment, uneven.checkpointing():
        losses = [student.step(attachment).loss for _ in range(4)]
    assert all(0 < loss < 100 for loss in losses) and student.done == 4


def test_a_prompt_and_a_negative_of_two_lengths_are_sampled_as_each_alone(uneven: Backbone):
    """What the preview does while learning."""
    concept = learner(uneven, "subject").concept()
    positive = aggregate(uneven, LONG, [concept]).prompt
    negative = aggregate(uneven, "", [concept]).prompt
    assert len(positive.context) != len(negative.context)
    noise, cfg = NOISE[:1], 3.0
    with Attachment(uneven, [concept.adapters]) as attachment:
        sampled = sample(uneven, attachment, [positive], negative, noise, steps=3, cfg=cfg)
        path = uneven.noise_path
        times = path.times(3)
        latents = path.start(noise, times[0])
        for t, next_t in pairwise(times):
            there, away = (alone(uneven, attachment, prompt, latents, t) for prompt in (positive, negative))
            latents = path.step(latents, away + cfg * (there - away), t, next_t)
    torch.testing.assert_close(sampled, latents, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def alone(backbone: Backbone, attachment: Attachment, prompt: ConceptPrompt, latents: Tensor, t: Tensor) -> Tensor:
    with attachment.activate([prompt], CPU):
        return predict_prompts(backbone, latents, t.expand(1), [prompt])


def test_a_model_call_itself_takes_one_length(uneven: Backbone):
    prompts = [
        ConceptPrompt(uneven.encode(text).context, (), torch.zeros(3, 1), torch.zeros(8, 1)) for text in ("a", LONG)
    ]
    assert rows_of_one_length([*prompts, prompts[0]]) == [[0, 2], [1]]
    with pytest.raises(CCVDError, match=r"one number of text rows; got \[8, 11\]"):
        predict_prompts(uneven, NOISE, torch.tensor([0.5, 0.5]), prompts)


def test_the_demo_model_learns_captions_beyond_its_32_rows(backbones: dict[str, Backbone], training: None):
    """Its text encoder in ComfyUI pads texts to 32 rows; a longer caption has more."""
    import comfy.sd

    demo_model = from_pack("nodes.host.demo_base")
    text_encoder, host = from_pack("nodes.host.text_encoder"), from_pack("nodes.host.backbone")
    reader = text_encoder.PromptReader(demo_model.load_clip(demo_model.TEXT_FILE), host.UMT5)
    model = comfy.sd.load_diffusion_model(str(demo_model.MODEL_FILE)).model.diffusion_model
    captions = ["a <rex> still", "a <rex> " + "moving right and down on very green grass " * 5]
    examples = [Example(torch.randn(16, 1, 4, 4), caption) for caption in captions]
    student = ConceptLearner(ComfyWanBackbone(model, reader), examples, "rex", "subject", "dog", SETTINGS)
    assert len({len(lesson.context) for lesson in student._examples}) == 2
    with Attachment(student.backbone, [student.live_adapters()]) as attachment:
        assert all(0 < student.step(attachment).loss < 100 for _ in range(2))
