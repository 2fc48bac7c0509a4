"""Class pictures against drift (prior preservation), on a tiny random model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.learning.class_pictures import CLASS_STEPS, ClassPictures
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.lesson_loop import LessonLoop
from ccvd_core.learning.plan import bytes_to_write
from ccvd_core.learning.progress_file import ProgressFile
from ccvd_core.learning.step import LearningSettings, draw_step
from ccvd_core.learning.trained import Learned

PLAIN = LearningSettings(steps=30, rank=2, lr=1e-2, token_lr=1e-2, batch=2)
SETTINGS = replace(PLAIN, class_weight=1.0, class_pictures=3)


@pytest.fixture
def model(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def learner(model: Backbone, settings: LearningSettings = SETTINGS) -> ConceptLearner:
    generator = torch.Generator().manual_seed(3)
    sizes = [(4, 1, 4, 6), (4, 2, 4, 6)]
    examples = [Example(torch.randn(size, generator=generator), "a <rex> runs") for size in sizes]
    return ConceptLearner(model, examples, "rex", "subject", "dog", settings)


def run(made: ConceptLearner, steps: int) -> list[float]:
    with Attachment(made.backbone, [made.live_adapters()]) as attachment:
        return [made.step(attachment).loss for _ in range(steps)]


def pictures(made: ConceptLearner) -> ClassPictures:
    assert made._class_pictures is not None
    return made._class_pictures


def made_pictures(model: Backbone, settings: LearningSettings = SETTINGS) -> list[Tensor]:
    made = learner(model, settings)
    with Attachment(model, [made.live_adapters()]) as attachment:
        made.prepare(attachment)
    return list(pictures(made).tensors().values())


def class_loss(made: ConceptLearner) -> float:
    """How well the model with the concept still makes the class pictures: mean over draws that nothing learned from."""
    own, learned = ClassPictures(made.backbone, "dog", "subject", made._examples, SETTINGS), made._trained.live()
    with torch.no_grad(), Attachment(made.backbone, [learned.adapters]) as attachment:
        own.make(made.backbone, attachment, lambda text: None, lambda: None)
        losses = [own.loss(made.backbone, attachment, learned, step) for step in range(1000, 1020)]
    return float(torch.stack(losses).mean())


def test_they_are_made_at_the_lessons_own_sizes_and_the_seed_decides_them(model: Backbone):
    first, again, other = made_pictures(model), made_pictures(model), made_pictures(model, replace(SETTINGS, seed=1))
    assert [tuple(one.shape) for one in first] == [(4, 1, 4, 6), (4, 2, 4, 6), (4, 1, 4, 6)]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[2]) and all(one.std() > 0.1 for one in first)


def test_they_are_held_on_to_and_leave_the_concepts_draws_alone(model: Backbone):
    without, held = learner(model, PLAIN), learner(model, replace(SETTINGS, class_weight=5.0))
    one, other = run(without, 20), run(held, 20)
    assert one[0] == other[0], "the concept's own first step is the same"
    untouched = class_loss(learner(model))
    assert class_loss(held) < min(untouched, class_loss(without))
    assert draw_step([(4, 1, 4, 6)], PLAIN, 3).noise.ne(draw_step([(4, 1, 4, 6)], PLAIN, 3, stream=1).noise).all()


@pytest.mark.parametrize("own_words_only", [True, False])
def test_on_own_words_keys_and_values_are_out_of_reach(model: Backbone, own_words_only: bool):
    made = learner(model, replace(SETTINGS, own_words_only=own_words_only))
    for parameter in made._trained.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)) / 10
    gradients = {}
    for weight in (1.0, 2.0):
        own = ClassPictures(model, "dog", "subject", made._examples, replace(made._settings, class_weight=weight))
        with Attachment(model, [made.live_adapters()]) as attachment:
            own.make(model, attachment, lambda text: None, lambda: None)
            loss = own.loss(model, attachment, made._trained.live(), 0)
        assert float(loss) > 0 and not loss.requires_grad
        gradients[weight] = {site: b.grad.clone() for site, (_, b) in made._trained.adapters.items()}  # type: ignore[union-attr]
        for parameter in made._trained.parameters():
            parameter.grad = None
    for site in model.sites:
        if site.id in gradients[1.0]:
            reached = bool(gradients[1.0][site.id].any())
            assert reached == (site.rows != "b text" or not own_words_only), site.id
            torch.testing.assert_close(gradients[2.0][site.id], 2 * gradients[1.0][site.id])


def test_gradients_are_off_where_they_are_not_wanted(model: Backbone):
    made = learner(model)
    frozen = Learned({site: replace(lora, a=lora.a.detach(), b=lora.b.detach())
                      for site, lora in made.live_adapters().items()}, made._trained.tokens.detach())  # fmt: skip
    with torch.no_grad(), Attachment(model, [frozen.adapters]) as attachment:
        assert float(pictures(made).loss(model, attachment, frozen, 0)) > 0
    assert all(parameter.grad is None for parameter in made._trained.parameters())


def test_a_stopped_lesson_goes_on_with_the_same_pictures(model: Backbone, tmp_path: Path):
    whole, half = learner(model), learner(model)
    run(whole, 6)
    run(half, 3)
    ProgressFile(tmp_path / "rex.safetensors", "job", [0.0] * 3).save(half)
    taken_up = learner(model)
    assert ProgressFile(tmp_path / "rex.safetensors", "job").restore(taken_up)
    assert pictures(taken_up).made, "they are not made again"
    run(taken_up, 3)
    assert all(torch.equal(value, whole.state()[key]) for key, value in taken_up.state().items())
    assert bytes_to_write(model, "subject", SETTINGS) > bytes_to_write(model, "subject", PLAIN)


def test_the_loop_says_that_they_are_made_and_can_be_stopped_there(model: Backbone, tmp_path: Path):
    class Stopped(BaseException):
        pass

    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == CLASS_STEPS + 5:
            raise Stopped

    said: list[str] = []
    made = learner(model)
    progress = ProgressFile(tmp_path / "rex.safetensors", "job")
    loop = LessonLoop(made, SETTINGS, Attachment(model, [made.live_adapters()]), progress, said.append, tick)
    with pytest.raises(Stopped):
        loop.run()
    assert said == ["Making class picture 1 of 3", "Making class picture 2 of 3"]
    assert not loop.keep() and made.done == 0, "they are made again, the same"
    assert made.estimate_seconds() > 0
