"""The best step of a lesson, by a validation loss, and sample prompts through the steps; on a tiny random model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.errors import LearningError
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_items import LessonItem, pieces
from ccvd_core.learning.plan import bytes_to_write
from ccvd_core.learning.progress_file import ProgressFile
from ccvd_core.learning.step import LearningSettings, training_times
from ccvd_core.learning.validation import Validation, held_out, kept_note, split
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.pack import from_pack

LAST = LearningSettings(steps=6, rank=2, lr=1e-2, token_lr=1e-2, batch=2)
BEST = replace(LAST, keep="best", validate_every=2)


@pytest.fixture
def model(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def examples(count: int = 2) -> list[Example]:
    generator = torch.Generator().manual_seed(3)
    return [Example(torch.randn(4, 2, 4, 6, generator=generator), f"a <rex> runs {n}") for n in range(count)]


def learner(model: Backbone, settings: LearningSettings = BEST, count: int = 2) -> ConceptLearner:
    return ConceptLearner(model, examples(count), "rex", "subject", "dog", settings)


def run(made: ConceptLearner, steps: int) -> None:
    with Attachment(made.backbone, [made.live_adapters()]) as attachment:
        for _ in range(steps):
            made.step(attachment)


def validation(made: ConceptLearner) -> Validation:
    assert made._validation is not None
    return made._validation


def values(made: ConceptLearner) -> list[Tensor]:
    concept = made.concept()
    return [concept.tokens, *(part for lora in concept.adapters.values() for part in (lora.a, lora.b))]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Losses that the validation finds, one after the other."""
    losses: list[float] = []
    left: Iterator[float] = iter(losses)
    monkeypatch.setattr(Validation, "loss", lambda *_: torch.tensor(next(left), dtype=torch.float64))
    return losses


def test_of_ten_pictures_one_is_held_out_and_of_few_none():
    assert held_out(range(9)) == set() and held_out(range(10)) == {9}
    assert held_out(range(25)) == {11, 24}
    for count in range(10, 80):
        assert len(held_out(range(count))) == count // 10 and 0 not in held_out(range(count))
    alone = [replace(example, item=None) for example in examples(10)]
    assert [len(part) for part in split(alone)] == [9, 1]
    in_pairs = [replace(example, item=number // 2) for number, example in enumerate(examples(20))]
    learned_from, out = split(in_pairs)
    assert [example.item for example in out] == [9, 9] and len(learned_from) == 18
    clip, picture = torch.zeros(1, 3, 5, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 1, 8, 8, dtype=torch.uint8)
    made = pieces([LessonItem((clip, clip)), LessonItem((picture,))], ["a", "b"], 5)
    assert [piece.item for piece in made] == [0, 0, 1, 1], "windows and still clips belong to what they are of"


def test_nothing_is_learned_from_what_is_held_out(model: Backbone):
    held, without = learner(model, count=10), learner(model, LAST, count=9)
    assert len(validation(held).examples) == 1
    assert torch.equal(validation(held).examples[0].latents, examples(10)[9].latents)
    run(held, 3)
    run(without, 3)
    assert same([p.detach() for p in held._trained.parameters()], [p.detach() for p in without._trained.parameters()])


def test_the_validation_loss_is_the_mean_over_fixed_examples_and_levels(model: Backbone):
    made = learner(model, count=6)
    run(made, 1)
    own = validation(made)
    assert len(own.examples) == 4 and own.passes == 16
    assert torch.equal(own.times, training_times(torch.special.ndtri(torch.tensor([0.125, 0.375, 0.625, 0.875])), BEST))
    total, path = 0.0, model.noise_path
    with torch.no_grad(), Attachment(model, [made.live_adapters()]) as attachment:
        for number, example in enumerate(own.examples):
            generator = torch.Generator().manual_seed(3 * 200_000 + number)
            prompt = made.prompt(example)
            for time in own.times:
                noise = torch.randn(1, 4, 2, 4, 6, generator=generator)
                level, clean = path.level(time[None]), example.latents[None]
                with attachment.activate([prompt], clean.device):
                    found = predict_prompts(model, path.mix(clean, noise, level), level, [prompt])
                total += float((found - path.target(clean, noise, level)).square().mean()) / 16
        loss = own.loss(model, attachment, made.current(), made.prompt)
    assert float(loss) == pytest.approx(total, rel=1e-5) and not loss.requires_grad


def test_the_best_step_is_kept_and_the_file_says_which(model: Backbone, scripted: list[float]):
    scripted += [0.5, 0.2, 0.4]
    made, until = learner(model), learner(model, LAST)
    run(made, 6)
    run(until, 4)
    assert same(values(made), values(until)), "the values after step 4"
    settings = made.concept().settings
    assert (settings["steps_done"], settings["kept_step"], settings["validation_loss"]) == (6, 4, 0.2)
    assert kept_note(settings) == "Kept step 4, the best: validation loss 0.2000 on its own examples."
    assert "1 held-out examples" in kept_note({**settings, "held_out": 1})
    assert kept_note(until.concept().settings) == ""
    assert same([*map(torch.Tensor.detach, made._trained.parameters())], [*map(torch.Tensor.detach, trained(model, 6))])


def trained(model: Backbone, steps: int) -> list[Any]:
    made = learner(model, LAST)
    run(made, steps)
    return made._trained.parameters()


def test_it_looks_every_so_many_steps_and_at_the_last(model: Backbone, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    usual = Validation.look

    def look(self: Validation, *args: Any) -> None:
        seen.append(args[-1])
        usual(self, *args)

    monkeypatch.setattr(Validation, "look", look)
    run(learner(model, replace(BEST, steps=5)), 5)
    assert seen == [2, 4, 5]


def test_of_a_running_mean_the_best_mean_is_kept(model: Backbone, scripted: list[float]):
    scripted += [0.5, 0.2, 0.4]
    made, until = learner(model, replace(BEST, ema=0.5)), learner(model, replace(LAST, ema=0.5))
    run(made, 6)
    run(until, 4)
    assert same(values(made), values(until)) and not same(values(until), [*map(torch.Tensor.detach, trained(model, 4))])


def test_a_stopped_lesson_goes_on_with_the_best_so_far(model: Backbone, scripted: list[float], tmp_path: Path):
    scripted += [0.1, 0.2, 0.3]
    half, until = learner(model), learner(model, LAST)
    run(half, 3)
    run(until, 2)
    ProgressFile(tmp_path / "rex.safetensors", "job", [0.0] * 3).save(half)
    taken_up = learner(model)
    assert ProgressFile(tmp_path / "rex.safetensors", "job").restore(taken_up)
    run(taken_up, 3)
    assert same(values(taken_up), values(until)) and taken_up.concept().settings["kept_step"] == 2
    assert bytes_to_write(model, "subject", BEST) > bytes_to_write(model, "subject", LAST)


def test_samples_are_prompts_with_the_concept_as_it_is(model: Backbone):
    made = learner(model, LAST)
    run(made, 2)
    sample, negative = made.read_sample("<rex> on grass"), model.encode("").context
    prompt, plain = made.preview_prompts(negative, made.current(), sample)
    assert sample.prompt.text == "dog on grass" and plain.is_plain
    torch.testing.assert_close(prompt.placed[0].values, made._trained.tokens)
    assert torch.equal(made.preview_prompts(negative, made.current())[0].context, made._examples[0].context)
    with pytest.raises(LearningError, match="does not say where the concept is"):
        made.read_sample("a dog")


def test_a_strip_has_a_row_for_each_prompt_and_columns_from_first_to_last():
    strips, error = from_pack("nodes.host.sample_strip"), from_pack("ccvd_core.errors").CCVDError
    assert strips.sample_lines(" a <rex> \n\n<Rex> runs", "rex") == ("a <rex>", "<Rex> runs")
    assert strips.sample_lines("", "rex") == ()
    with pytest.raises(error, match="At most 2 sample prompts"):
        strips.sample_lines("a <rex>\nb <rex>\nc <rex>", "rex")
    with pytest.raises(error, match=r"'a dog'.*does not name the concept: write <rex>"):
        strips.sample_lines("a dog", "rex")
    strip = strips.SampleStrip()
    assert not strip
    for step in range(20):
        colours = {"one": (step * 10, 0, 0), "two": (0, step * 10, 0)}
        strip.add(step, {text: Image.new("RGB", (400, 200), colour) for text, colour in colours.items()})
    picture = strip.picture()
    columns, (width, height) = strips.MOST_COLUMNS, picture.size
    assert strip and width == 4 + columns * (192 + 4) and height > 2 * 96
    middle = [picture.getpixel((4 + number * 196 + 96, 50)) for number in range(columns)]
    reds = [pixel[0] for pixel in middle]
    assert reds[0] == 0 and reds[-1] == 190 and reds == sorted(reds), "the first and the last are always there"
