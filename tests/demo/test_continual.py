"""The continual benchmark: every rival's formula against a plain loop, its bookkeeping, and a small run of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import experiment
import pytest
import together
import torch
from base import KNOWN, load_base
from bases import Base, Demo, load_demo
from contenders import METHODS, Family, Learner, Request, only, share
from encoder import WORDS as SAID
from experiment import Experiment, measured, missing, perform
from lessons import LessonPlan
from report import draw_pictures, mean_curve, table
from rivals.c_lora import CLora, self_regularisation
from rivals.ewc import DRAWS, EWC, consolidation
from rivals.l2dm import L2DM
from rivals.lora_m import merge
from rivals.lwf import LwF
from rows import Row, check_settings, curves, final, forgetting, known_so_far, read_rows, store
from tasks import LOOK_ALIKES, TABLE_SEED, TASKS, TUNING_SEED, UNUSED_WORDS, identifiers, tasks_for
from text import build_encoder, train_tokenizer, vocabulary_size
from torch import Tensor
from training import Adapters, Batch, Model, TaskData, learn_task, task_data, trainable
from world.scenes import EVERYTHING

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.noise_path import FlowPath
from ccvd_core.concepts.concept import LowRank
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.plan import usual_settings
from ccvd_core.learning.step import LearningSettings
from ccvd_core.number_types import number_type
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.prompts.concept_tokens import PlacedTokens

SITE = "blocks.0.cross_attn.k"


@pytest.fixture(scope="module")
def base() -> Base:
    return load_demo()


class TinyModel:
    """A stand-in for the base: one Linear's worth of LoRA scales the noisy input, captions by their length."""

    backbone = type("Backbone", (), {"noise_path": FlowPath()})()

    def predict(self, noisy: Tensor, t: Tensor, captions: Sequence[str], adapters: Sequence[Adapters]) -> Tensor:
        change = sum((lora.b @ lora.a).sum() for part in adapters for lora in part.values())
        lengths = torch.tensor([float(len(caption)) for caption in captions])
        return noisy * (1 + change) * lengths.view(-1, 1, 1, 1, 1)


def tiny_model() -> Model:
    return TinyModel()  # type: ignore[return-value]


def lora(seed: int, rank: int = 2, positive: bool = False) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, 4, generator=generator) / 4, torch.randn(3, rank, generator=generator) / 4
    return LowRank(a.abs(), b.abs()) if positive else LowRank(a, b)


def tiny_data() -> TaskData:
    latents = tuple(torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(i)) for i in range(3))
    return TaskData("subject", latents, ("a b dog", "a b dog on", "a b"), ("a dog", "a dog on", "a"))


SETTINGS = LearningSettings(steps=3, rank=2, lr=1e-2, batch=4)


def test_consolidation_is_the_weighted_squared_distance():
    now, then, fisher = ([torch.rand(2, 3), torch.rand(4)] for _ in range(3))
    expected = 0.0
    for new, old, f in zip(now, then, fisher, strict=True):
        for n, o, w in zip(new.flatten().tolist(), old.flatten().tolist(), f.flatten().tolist(), strict=True):
            expected += 0.5 * w * (n - o) ** 2
    assert consolidation(now, then, fisher).item() == pytest.approx(expected, rel=1e-5)
    assert consolidation(now, now, fisher).item() == 0
    assert consolidation([], [], []).item() == 0


def test_ewc_sums_the_squared_gradients_of_single_examples_over_tasks():
    rival, data, live = EWC(tiny_model(), 1.0), tiny_data(), {SITE: lora(0)}
    expected = torch.zeros(2, 4)
    for draw in range(DRAWS):
        batch = data.batch(TinyModel.backbone, replace(SETTINGS, batch=1), SETTINGS.steps + draw)
        a = live[SITE].a.clone().requires_grad_()
        prediction = batch.noisy * (1 + (live[SITE].b @ a).sum()) * len(batch.captions[0])
        (gradient,) = torch.autograd.grad((prediction - batch.target).square().mean(), a)
        expected += gradient**2 / DRAWS
    rival.finish(live, data, SETTINGS)
    torch.testing.assert_close(rival.fisher[SITE][0], expected)
    rival.finish(live, data, SETTINGS)
    torch.testing.assert_close(rival.fisher[SITE][0], 2 * expected)


def test_c_lora_penalty_is_an_elementwise_product_with_what_earlier_tasks_changed():
    rival, earlier, new = CLora(tiny_model(), 3.0), [lora(1), lora(2)], lora(3)
    for one in earlier:
        rival.finish({SITE: one}, tiny_data(), SETTINGS)
    expected = 0.0
    for row, column in itertools.product(range(3), range(4)):
        before = sum(float(one.b[row] @ one.a[:, column]) for one in earlier)
        expected += (abs(before) * float(new.b[row] @ new.a[:, column])) ** 2
    batch = tiny_data().batch(TinyModel.backbone, SETTINGS, 0)
    assert rival.extra(batch, {SITE: new}).item() == pytest.approx(3 * expected, rel=1e-4)
    assert self_regularisation(torch.zeros(3, 4), new).item() == 0
    assert len(rival.acting({SITE: new})) == 3 and len(rival.adapters("c_lora")) == 2


def test_lwf_draws_the_new_prediction_to_the_earlier_one_on_class_captions():
    rival, data, live = LwF(tiny_model(), 0.5), tiny_data(), trainable({SITE: lora(1)})
    rival.weights = {SITE: lora(2)}
    batch = data.batch(TinyModel.backbone, SETTINGS, 0)
    errors = []
    for row in range(2):  # half of the batch of four
        scale = len(batch.class_captions[row])
        before = batch.noisy[row] * (1 + (rival.weights[SITE].b @ rival.weights[SITE].a).sum()) * scale
        now = batch.noisy[row] * (1 + (live[SITE].b @ live[SITE].a).sum()) * scale
        errors += (now - before).square().flatten().tolist()
    loss = rival.extra(batch, live)
    assert loss.item() == pytest.approx(0.5 * sum(errors) / len(errors), rel=1e-4)
    loss.backward()
    assert live[SITE].a.grad is not None
    assert rival.extra(batch, rival.weights).item() == 0


def test_l2dm_remembers_captions_of_every_task_and_nothing_else():
    rival, data = L2DM(tiny_model(), 1.0), tiny_data()
    assert {rival.remembered("a dog") for _ in range(20)} == {"a dog"}
    rival.finish({SITE: lora(1)}, data, SETTINGS)
    rival.finish({SITE: lora(1)}, replace(data, captions=("a c cat",)), SETTINGS)
    assert {rival.remembered("a dog") for _ in range(200)} == {"a dog", *data.captions, "a c cat"}
    assert rival.memory == [data.captions, ("a c cat",)]


def test_peft_merges_what_a_plain_sum_merges():
    loras = [{SITE: lora(seed, positive=True)} for seed in range(3)]
    exact = merge(loras, 1 / 3, "cat")[SITE]
    mean = sum(one[SITE].b @ one[SITE].a for one in loras) / 3
    torch.testing.assert_close(exact.b @ exact.a, mean)
    # Nothing dropped: DARE adds A and B with the square root of the weight; with one sign TIES is the same over n.
    a, b = (sum(getattr(one[SITE], part) for one in loras) / 3**0.5 for part in "ab")
    dare, ties = (merge(loras, 1 / 3, kind, density=1.0)[SITE] for kind in ("dare_linear", "ties"))
    torch.testing.assert_close(dare.a, a)
    torch.testing.assert_close(dare.b, b)
    torch.testing.assert_close(ties.a, a / 3)
    torch.testing.assert_close(ties.b, b / 3)
    again = [merge(loras, 1.0, "dare_linear")[SITE] for _ in range(2)]
    assert torch.equal(again[0].a, again[1].a)


def test_the_rivals_loop_is_concept_learner_without_tokens_and_retention(base: Base):
    backbone, task = base.backbone, TASKS[0]
    settings = replace(
        usual_settings(backbone, "subject"), steps=3, batch=2, seed=4, tokens=False, own_words_only=False, retention=0.0
    )
    examples = task.examples(base, settings.still_frames)
    learner = ConceptLearner(backbone, examples, task.name, task.kind, task.class_words, settings)
    with Attachment(backbone, [learner.live_adapters()]) as attachment:
        expected = [learner.step(attachment).loss for _ in range(3)]
    data = task_data(base, task, settings)
    data = replace(data, captions=data.class_captions)
    rival = CLora(Model(backbone), 0.0)
    assert learn_task(rival, data, settings) == pytest.approx(expected, rel=1e-4)
    # AdamW divides by the gradient's size, so that rounding of nearly zero gradients shows.
    for site, adapter in learner.concept().adapters.items():
        torch.testing.assert_close(rival.learned[0][site].a, adapter.a, atol=3e-4, rtol=1e-3)


def rows_of(method: str, values: dict[str, dict[int, float]], seed: int = 0) -> list[Row]:
    return [
        Row(method, seed, task, after, "identity", value)
        for task, curve in values.items()
        for after, value in curve.items()
    ]


def test_forgetting_is_the_value_right_after_learning_minus_the_last():
    rows = rows_of("m", {"rex": {1: 0.9, 2: 0.5, 3: 0.2}, "hop": {2: 1.0, 3: 0.75}, "cab": {3: 0.5}})
    tasks = curves(rows, "identity")["m", 0]
    assert final(tasks) == pytest.approx((0.2 + 0.75 + 0.5) / 3)
    assert forgetting(tasks) == pytest.approx((0.7 + 0.25 + 0.0) / 3)
    assert [known_so_far(tasks, k) for k in range(4)] == [None, 0.9, 0.75, pytest.approx(1.45 / 3)]


def test_the_report_shows_mean_and_spread_over_seeds(tmp_path: Path):
    rows = [
        *rows_of("ccvd", {"rex": {1: 0.8, 2: 0.8}, "hop": {2: 1.0}}),
        *rows_of("ccvd", {"rex": {1: 0.6, 2: 0.4}, "hop": {2: 1.0}}, seed=1),
    ]
    assert "| `ccvd` | 2 | 0.800 ± 0.141 | 0.050 ± 0.071 |" in table(rows)
    draw_pictures(rows, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "forgetting.png"}


NO_BASE: Any = SimpleNamespace(known=EVERYTHING)


class NoLearner(Learner):
    """Counts its trainings; asks for nothing."""

    trained: list[tuple[int, float, str]]

    def __init__(self, seed: int, strength: float) -> None:
        self._key = (seed, strength)

    def learn(self, task: LessonPlan) -> None:
        self.trained.append((*self._key, task.name))

    def request(self, method: str, task: LessonPlan, captions: Sequence[str]) -> Request:
        blank = ConceptPrompt(torch.zeros(1, 1), (), torch.zeros(1, 0), torch.zeros(1, 0))
        return Request((), [blank] * len(captions), blank, routing=0.5)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(experiment, "draw_prompts", lambda *_: torch.zeros(()))
    monkeypatch.setattr(NoLearner, "trained", [], raising=False)
    judge = type("Zero", (), {"judge": lambda self, plan, clips, scenes: {"identity": 0.0}})()
    trial = Experiment(NO_BASE, judge, TASKS[:2], 1, 2, TUNING_SEED)
    family = Family({"a": "every", "b": "ends", "c": "once"}, lambda base, steps, seed, x: NoLearner(seed, x), (1.0,))
    families = [family]
    out = tmp_path / "results.csv"

    def measure(chosen: list[str], tuning: bool = False) -> None:
        for job in missing(families, chosen, [0], read_rows(out), tuning):
            store(perform(trial, families, job), out)

    measure(["a"])
    first = read_rows(out)
    assert [(row.task, row.after_task) for row in first if row.metric == "identity"] == [
        ("rex", 1),
        ("rex", 2),
        ("hop", 2),
    ]
    measure(["a", "c"])
    measure(["a", "c"])
    assert NoLearner.trained == [(0, 0.0, "rex"), (0, 0.0, "hop")] * 2
    assert read_rows(out)[: len(first)] == first
    assert {(r.task, r.after_task) for r in read_rows(out) if r.method == "c"} == {("rex", 1), ("hop", 2)}
    measure(["a"], tuning=True)
    assert NoLearner.trained[-1] == (0, 1.0, "hop")
    assert {row.method for row in read_rows(out)} == {"a", "c", "a=1"}
    (again,) = missing(families, ["a"], [0], [])
    store(perform(trial, families, again), out)
    assert len(NoLearner.trained) == 8 and len([r for r in read_rows(out) if r.method == "a"]) == len(first)
    assert len(missing(families, ["a", "b"], [0, 1], [])) == 2


def test_what_asks_for_the_same_clips_is_drawn_once(monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []
    monkeypatch.setattr(experiment, "draw_prompts", lambda *asked: drawn.append(asked[-1]) or torch.zeros(()))
    monkeypatch.setattr(NoLearner, "trained", [], raising=False)
    judge = type("Zero", (), {"judge": lambda self, plan, clips, scenes: {"identity": 0.0}})()
    trial = Experiment(NO_BASE, judge, TASKS[:3], 1, 2, TUNING_SEED)
    family = Family({"a": "every", "b": "every"}, lambda base, steps, seed, x: NoLearner(seed, x))
    rows = list(trial.run(family, ["a", "b"], 0, 0.0))
    assert len([row for row in rows if row.metric == "identity"]) == 2 * (1 + 2 + 3)
    assert len(drawn) == 3

    blank = ConceptPrompt(torch.zeros(1, 1), (), torch.zeros(1, 1), torch.zeros(1, 1))
    one, other = lora(1), lora(2)
    request = Request([{SITE: one}], [blank], blank)
    assert request.digest() == Request([{SITE: replace(one, a=one.a.clone())}], [blank], blank, routing=1.0).digest()
    differing = [
        Request([{SITE: other}], [blank], blank),
        Request([{"blocks.0.cross_attn.v": one}], [blank], blank),
        Request([{SITE: replace(one, scale=0.5)}], [blank], blank),
        Request([{SITE: one}], [replace(blank, weights=torch.ones(1, 1))], blank),
        Request([{SITE: one}], [replace(blank, gates=torch.ones(1, 1))], blank),
        Request([{SITE: one}], [replace(blank, placed=(PlacedTokens("a", (0,), torch.zeros(1, 1, 1)),))], blank),
        Request([{SITE: one}], [blank], replace(blank, context=torch.ones(1, 1))),
    ]
    assert len({request.digest(), *(each.digest() for each in differing)}) == 8


def test_stored_rows_replace_those_of_the_same_method_and_seed(tmp_path: Path):
    out = tmp_path / "results.csv"
    other = rows_of("m", {"rex": {1: 0.25}}, seed=1)
    store([*rows_of("m", {"rex": {1: 0.5}, "hop": {1: 0.5}}), *other], out)
    store(rows_of("m", {"rex": {1: 0.75}}), out)
    assert read_rows(out) == [*other, *rows_of("m", {"rex": {1: 0.75}})]
    assert out.read_text().startswith("method,seed,task,after_task,metric,value,number_type\n")
    assert out.read_text().splitlines()[1] == f"m,1,rex,1,identity,0.2500,{number_type()}"
    check_settings(out, {"steps": 200})
    check_settings(out, {"steps": 200})
    with pytest.raises(ValueError, match="300"):
        check_settings(out, {"steps": 300})


def test_a_curve_has_points_where_all_tasks_so_far_were_measured():
    often = {f"t{n}": {n: 1.0, **({5: 0.5} if n <= 5 else {}), 7: 0.25} for n in range(1, 8)}
    rows = [*rows_of("often", often), *rows_of("once", {f"t{n}": {n: 0.75} for n in range(1, 8)})]
    assert mean_curve(rows, "often", "identity") == [(1, 1.0), (5, 0.5), (7, 0.25)]
    assert mean_curve(rows, "once", "identity") == [(n, 0.75) for n in range(1, 8)]


def test_no_unused_word_is_said_in_the_world_and_both_tokenizers_have_one_for_every_task(base: Base):
    assert not set(UNUSED_WORDS) & {*SAID, "and"}
    tokenizer = train_tokenizer()
    encoder = build_encoder(vocabulary_size(tokenizer)).eval().requires_grad_(False)
    model = replace(load_base(), tokenizer=tokenizer, encoder=encoder)
    for one in (base, Demo(model, model.backbone())):
        assert len(set(identifiers(one))) == len(TASKS)


def test_which_tasks_are_measured_when():
    learned = TASKS[:3]
    assert list(measured("every", learned, 5)) == list(learned)
    assert list(measured("often", learned, 22)) == [TASKS[2]]
    assert list(measured("often", TASKS[:5], 22)) == list(TASKS[:5]) and len(measured("often", TASKS, 22)) == 22
    assert list(measured("ends", learned, 5)) == [TASKS[2]]
    assert list(measured("ends", learned, 3)) == list(learned)
    assert list(measured("once", learned, 3)) == [TASKS[2]]


def test_routing_is_a_share_of_all_weight():
    weights = torch.tensor([[1.0, 0.0, 1.0], [3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert share(weights, 0).item() == pytest.approx((0.5 + 0.75 + 0) / 3)
    prompt = ConceptPrompt(torch.zeros(2, 4), (), weights, torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]))
    assert torch.equal(only(prompt, [0, 2]).weights, weights[:, [0, 2]])
    assert torch.equal(only(prompt, [1]).gates, torch.tensor([[0.0], [1.0]]))


def test_the_tasks_are_all_that_is_held_out_or_near_it_and_look_alikes_lie_apart():
    assert [sum(task.kind == kind for task in TASKS) for kind in ("subject", "motion", "style")] == [12, 5, 5]
    place = {task.name: index for index, task in enumerate(TASKS)}
    assert len(place) == len(TASKS) == len({task.shown for task in TASKS})
    assert all(abs(place[one] - place[other]) > 5 for one, other in LOOK_ALIKES.items())
    assert all(first.kind != second.kind for first, second in itertools.pairwise(TASKS[:-1]))
    for task in TASKS:
        table_scenes, tuning_scenes = (
            task.judged_scenes(3, True, seed, EVERYTHING) for seed in (TABLE_SEED, TUNING_SEED)
        )
        assert table_scenes != tuning_scenes
        assert all(f"<{task.name}>" in task.caption(scene) for scene in table_scenes)
    assert len(set(METHODS)) == len(METHODS)


def test_a_base_is_given_the_tasks_whose_class_words_it_knows():
    assert tasks_for(EVERYTHING) == list(TASKS)
    some = tasks_for(KNOWN)
    assert some == [task for task in TASKS if task in some]
    assert all(task.class_words in (*KNOWN.words, *KNOWN.motions, *KNOWN.styles) for task in some)


def test_rivals_tell_tasks_apart_by_words_that_the_base_never_read(base: Base):
    words = identifiers(base)
    assert len(set(words)) == len(TASKS) and set(words) <= set(UNUSED_WORDS)
    data = task_data(base, TASKS[0], usual_settings(base.backbone, "subject"))
    assert all(f"a {words[0]} dog" in caption for caption in data.captions)
    assert all("a dog" in caption for caption in data.class_captions)
    batch = data.batch(base.backbone, SETTINGS, 1)
    assert isinstance(batch, Batch) and len(batch.captions) == 4 == len(batch.noisy)


def test_three_at_once_are_found_in_what_the_world_draws_and_every_row_is_measured(
    base: Base, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    cases = together.random_cases(together.subjects(EVERYTHING), 6, 1, EVERYTHING)
    assert all(len(set(case.plans)) == 3 and case.prompt().count("<") == 3 for case in cases)
    seen = [together.found(case, torch.from_numpy(case.scene.render()).float() / 255) for case in cases]
    assert torch.tensor(seen).float().mean() > 0.8
    gone = replace(cases[0].scene, actors=cases[0].scene.actors[:2])
    assert together.found(cases[0], torch.from_numpy(gone.render()).float() / 255)[2] is False
    monkeypatch.setattr("drawing.STEPS", 1)
    rows = [row for method in together.METHODS for row in together.rows_of(base, method, 0, 1, 1, tmp_path)]
    assert [(row.method, row.setting, row.metric) for row in rows] == [
        (method, setting, metric)
        for method in together.METHODS
        for setting in ("named", "all")
        for metric in ("found", "all_found")
    ]
