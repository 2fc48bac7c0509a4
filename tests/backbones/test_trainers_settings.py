"""What trainers' users set: optimizers, running mean, caption dropout, offset noise, masks. On a tiny random model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.file import load_concept, save_concept
from ccvd_core.concepts.kinds import KINDS, LAYERS, Kind, Layers
from ccvd_core.errors import CCVDError, LearningError
from ccvd_core.learning.example import Example, loss_weights
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.losses import motion_loss, video_loss
from ccvd_core.learning.plan import bytes_to_write, learning_need
from ccvd_core.learning.step import LearningSettings, draw_step
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.regions.regional_prompt import predict_prompts

SETTINGS = LearningSettings(steps=12, rank=2, lr=1e-2, token_lr=1e-2, batch=2)


@pytest.fixture
def model(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["diffusers"]


def examples(count: int = 3, mask: Tensor | None = None) -> list[Example]:
    generator = torch.Generator().manual_seed(3)
    return [Example(torch.randn(4, 2, 4, 6, generator=generator), f"a <rex> runs {n}", mask=mask) for n in range(count)]


def learner(model: Backbone, settings: LearningSettings, media: list[Example] | None = None) -> ConceptLearner:
    return ConceptLearner(model, media or examples(), "rex", "subject", "dog", settings)


def trained(model: Backbone, settings: LearningSettings, steps: int, **others: Any) -> ConceptLearner:
    made = learner(model, settings, **others)
    run(made, steps)
    return made


def run(made: ConceptLearner, steps: int) -> list[float]:
    with Attachment(made.backbone, [made.live_adapters()]) as attachment:
        return [made.step(attachment).loss for _ in range(steps)]


def adapters(made: ConceptLearner) -> dict[str, Tensor]:
    return {site: low_rank.b @ low_rank.a for site, low_rank in made.concept().adapters.items()}


def same(one: ConceptLearner, other: ConceptLearner) -> bool:
    theirs = adapters(other)
    return all(torch.equal(value, theirs[site]) for site, value in adapters(one).items())


class Prodigious(torch.optim.SGD):
    """Stands for an optimizer that finds its own rate and keeps it beside its settings, as Prodigy does."""

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float, **_: Any) -> None:
        super().__init__(groups, weight_decay=weight_decay)
        for group in self.param_groups:
            group["d"] = 1e-3

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["d"] *= 1.1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad, alpha=-group["d"] * group["lr"])


@pytest.mark.parametrize("name", ["adamw", "adafactor", "prodigy", "adamw8bit"])
def test_an_interrupted_lesson_goes_on_as_if_it_had_not_been(
    model: Backbone, name: str, monkeypatch: pytest.MonkeyPatch
):
    """The stand-ins for packages that are not here take their place under the same names."""
    monkeypatch.setitem(sys.modules, "prodigyopt", SimpleNamespace(Prodigy=Prodigious))
    stand_in = SimpleNamespace(AdamW8bit=lambda groups, betas, weight_decay: torch.optim.AdamW(groups, betas=betas))
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(optim=stand_in))
    settings = replace(SETTINGS, optimizer=name, ema=0.9)
    whole = trained(model, settings, 6)
    first = trained(model, settings, 3)
    state = {key: value.clone() for key, value in first.state().items()}
    second = learner(model, settings)
    second.load_state(state)
    run(second, 3)
    assert same(whole, second) and not same(whole, first)
    assert torch.equal(whole.concept().tokens, second.concept().tokens)


def test_an_optimizer_that_finds_its_own_rate_gets_the_schedule_alone(model: Backbone, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", SimpleNamespace(Prodigy=Prodigious))
    made = trained(model, replace(SETTINGS, optimizer="prodigy"), 3)
    assert {group["lr"] for group in made._trained.optimizer.param_groups} == {1.0}
    other = trained(model, replace(SETTINGS, optimizer="prodigy", lr=1e-5), 3)
    assert same(made, other), "lr is not read"


def test_a_package_that_is_missing_is_asked_for(model: Backbone, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(LearningError, match=r"needs the package prodigyopt.*pip install prodigyopt"):
        learner(model, replace(SETTINGS, optimizer="prodigy"))


def test_the_running_mean_is_the_mean_that_it_says(model: Backbone):
    decay, made = 0.6, learner(model, replace(SETTINGS, ema=0.6))
    means = [value.detach().clone() for value in made._trained.parameters()]
    for step in range(5):
        run(made, 1)
        kept = min(decay, (step + 1) / (step + 10))
        means = [
            kept * mean + (1 - kept) * value.detach()
            for mean, value in zip(means, made._trained.parameters(), strict=True)
        ]
    concept = made.concept()
    torch.testing.assert_close(concept.tokens, means[-1])
    site = next(iter(concept.adapters))
    torch.testing.assert_close(concept.adapters[site].a, means[0])
    torch.testing.assert_close(concept.adapters[site].b, means[1])
    assert not torch.equal(concept.tokens, made._trained.tokens.detach())


def test_dropped_captions_are_the_name_alone(model: Backbone):
    shapes = [(4, 2, 4, 6)] * 3
    shares = [
        sum(draw_step(shapes, replace(SETTINGS, caption_dropout=0.3, batch=8), step).name_alone) / 8
        for step in range(200)
    ]
    assert sum(shares) / len(shares) == pytest.approx(0.3, abs=0.05)
    usual, never = draw_step(shapes, SETTINGS, 4), draw_step(shapes, replace(SETTINGS, caption_dropout=1.0), 4)
    assert not any(usual.name_alone) and all(never.name_alone)
    assert torch.equal(usual.noise, never.noise) and torch.equal(usual.times, never.times) and usual.rows == never.rows
    alone = [Example(example.latents, "<rex>") for example in examples()]
    bare = trained(model, replace(SETTINGS, caption_dropout=1.0), 3)
    assert same(bare, trained(model, SETTINGS, 3, media=alone))


def test_offset_noise_is_shared_by_a_channel_of_a_frame_and_keeps_its_size():
    drawn = draw_step([(4, 3, 64, 64)], replace(SETTINGS, frame_offset=0.5), 1).noise
    plain = draw_step([(4, 3, 64, 64)], SETTINGS, 1).noise
    added = drawn * (1.25**0.5) - plain
    assert added.std(dim=(3, 4)).abs().max() < 1e-5, "one number per channel and frame"
    assert added[..., 0, 0].std() == pytest.approx(0.5, rel=0.5)
    many = torch.cat([draw_step([(4, 3, 8, 8)], replace(SETTINGS, frame_offset=0.5), step).noise for step in range(50)])
    assert float(many.std()) == pytest.approx(1.0, abs=0.03)


def test_masked_losses_are_weighted_means():
    generator = torch.Generator().manual_seed(1)
    prediction, target = (torch.randn(2, 4, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    weight = torch.rand(2, 1, 3, 2, 2, generator=generator, dtype=torch.float64)
    error, change, total, changed = 0.0, 0.0, 0.0, 0.0
    for b in range(2):
        for f in range(3):
            for y in range(2):
                for x in range(2):
                    w = float(weight[b, 0, f, y, x])
                    for c in range(4):
                        off = float(target[b, c, f, y, x] - prediction[b, c, f, y, x])
                        error, total = error + w * off**2, total + w
                        if f:
                            before = float(target[b, c, f - 1, y, x] - prediction[b, c, f - 1, y, x])
                            change, changed = change + w * (off - before) ** 2, changed + w
    found = video_loss(prediction, target, "subject", SETTINGS, weight)
    assert float(found) == pytest.approx(error / total)
    expected = 0.75 * change / changed + 0.25 * error / total
    assert float(motion_loss(prediction, target, 0.25, weight)) == pytest.approx(expected)


def test_what_a_mask_leaves_out_is_not_learned(model: Backbone):
    half = torch.zeros(1, 2, 4, 6)
    half[..., :3] = 1
    changed = [
        Example(torch.cat([e.latents[..., :3], -e.latents[..., 3:]], -1), e.caption, mask=half) for e in examples()
    ]
    settings = replace(SETTINGS, unmasked=0.0)
    one, other = (run(learner(model, settings, media), 1)[0] for media in (examples(mask=half), changed))
    assert one != other, "the model sees the whole picture"
    everything = trained(model, settings, 2, media=examples(mask=torch.ones(1, 2, 4, 6)))
    assert same(everything, trained(model, SETTINGS, 2, media=examples()))
    read = learner(model, settings, [*examples(1, half), *examples(1)])._examples
    weights = loss_weights(read, 0.25)
    assert weights is not None and weights.shape == (2, 1, 2, 4, 6)
    assert weights[0].unique().tolist() == [0.25, 1.0] and weights[1].unique().tolist() == [1.0]
    assert loss_weights(read[1:], 0.25) is None


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_chosen_layers_learn_and_the_file_acts_as_any(
    backbones: dict[str, Backbone], unets: dict[str, Backbone], kind: Kind, layers: Layers, tmp_path: Path
):
    for number, model in enumerate((backbones["diffusers"], unets["unet"])):
        settings = replace(SETTINGS, layers=layers)
        latents = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        made = ConceptLearner(model, [Example(clip, "a <rex>") for clip in latents], "rex", kind, "dog", settings)
        run(made, 2)
        expected = [site for site in model.sites if LAYERS[layers].takes(kind, site.role, site.part)]
        assert {site.id for site in expected} == set(made.concept().adapters)
        assert all(value.any() for value in adapters(made).values()), "all of them have learned"
        need = learning_need(model, kind, settings.rank, (4, 3, 8, 8), 2, 4, layers)
        real = (
            sum(lora.a.numel() + lora.b.numel() for lora in made.live_adapters().values())
            + made._trained.tokens.numel()
        )
        assert need.parameters == real
        written = sum(2 * 4 * (site.in_features + site.out_features) for site in expected)
        assert bytes_to_write(model, kind, settings) > 4 * written, "the concept, and the progress with two moments"
        save_concept(made.concept(), tmp_path / f"{number}.safetensors", replace=False)
        loaded = load_concept(tmp_path / f"{number}.safetensors")
        assert loaded.settings["layers"] == layers
        prompt = aggregate(model, "a <rex>", [loaded]).prompt
        level = torch.full((1,), 0.5)
        with torch.no_grad(), Attachment(model, [loaded.adapters]) as attachment:
            plain = predict_prompts(model, latents[:1], level, [prompt])
            with attachment.activate([prompt], latents.device):
                assert not torch.equal(plain, predict_prompts(model, latents[:1], level, [prompt]))


def test_queries_and_keys_are_what_they_are_called(backbones: dict[str, Backbone], unets: dict[str, Backbone]):
    for model in (backbones["diffusers"], unets["unet"]):
        ids = model.site_ids("motion", "queries and keys")
        assert ids and {site.rsplit(".", 1)[1] for site in ids} == {"q", "k"}
        assert all(".self_attn." in site for site in ids)
        assert all(".ffn." in site.id for site in model.sites if site.part == "ffn")
        assert all(site.id.endswith(f".{site.part}") for site in model.sites if site.part != "ffn")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimizer", "sgd"),
        ("weight_decay", 1.0),
        ("caption_dropout", 1.1),
        ("ema", 1.0),
        ("frame_offset", -0.1),
        ("unmasked", 2.0),
        ("layers", "none"),
        ("class_weight", -1.0),
        ("class_pictures", 0),
    ],
)
def test_settings_that_cannot_be_are_refused(setting: str, value: Any):
    with pytest.raises(CCVDError, match=f"Learning setting {setting} must be"):
        replace(SETTINGS, **{setting: value})
