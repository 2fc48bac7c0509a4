"""What every backbone must do, and that all of them do the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.scenes import adapters as adapters_of

CPU = torch.device("cpu")
MakePrompt = Callable[..., ConceptPrompt]


def test_sites_are_the_same_everywhere(backbones: dict[str, Backbone]):
    one, other = backbones["diffusers"], backbones["comfy"]
    assert [(s.id, s.layer, s.role, s.rows, s.in_features, s.out_features) for s in one.sites] == [
        (s.id, s.layer, s.role, s.rows, s.in_features, s.out_features) for s in other.sites
    ]
    assert one.fingerprint == other.fingerprint
    assert one.grid((4, 3, 5, 6)) == other.grid((4, 3, 5, 6))
    assert (one.layers, one.text_width) == (other.layers, other.text_width)


def test_same_prediction_without_concepts(backbones: dict[str, Backbone], case, make_prompt: MakePrompt):
    prompts = [make_prompt("a dog runs"), make_prompt("a cat")]
    with torch.no_grad():
        one, other = (predict_prompts(b, case.latents, case.t, prompts) for b in backbones.values())
    # Both are float32; the two implementations sum in other orders.
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_same_prediction_with_concepts(backbones: dict[str, Backbone], case, make_prompt: MakePrompt):
    prompts = [make_prompt("a dog runs", (1.0, 0.4)), make_prompt("a cat and dog", (0.0, 0.7), rows=(1, 3), seed=2)]
    results = []
    for backbone in backbones.values():
        adapters = [adapters_of(backbone, 1, "subject"), adapters_of(backbone, 2, "motion")]
        with torch.no_grad(), Attachment(backbone, adapters) as attachment, attachment.activate(prompts, CPU):
            results.append(predict_prompts(backbone, case.latents, case.t, prompts))
    torch.testing.assert_close(results[0], results[1], atol=5e-5, rtol=1e-4)


def test_adapters_change_the_prediction_and_detaching_restores_it_bit_for_bit(
    backbone: Backbone, case, make_prompt: MakePrompt
):
    plain, named = make_prompt("a dog runs"), make_prompt("a dog runs", (1.0,))
    weights = {key: value.clone() for key, value in backbone.text_inputs()[0].module.state_dict().items()}
    with torch.no_grad():
        before = predict_prompts(backbone, case.latents, case.t, [plain, plain])
        with Attachment(backbone, [adapters_of(backbone, 3)]) as attachment:
            untouched = predict_prompts(backbone, case.latents, case.t, [plain, plain])
            with attachment.activate([named, None], CPU):
                mixed = predict_prompts(backbone, case.latents, case.t, [named, plain])
        after = predict_prompts(backbone, case.latents, case.t, [plain, plain])
    assert torch.equal(before, untouched) and torch.equal(before, after)
    assert torch.equal(mixed[1], before[1]), "a plain prompt beside a named one must be the base model's"
    assert not torch.allclose(mixed[0], before[0], atol=1e-3)
    assert all(torch.equal(weights[key], value) for key, value in backbone.text_inputs()[0].module.state_dict().items())
    assert not any(text.module._forward_pre_hooks for text in backbone.text_inputs())
    assert not any(site.module._forward_hooks for site in backbone.sites)


def test_a_context_repeated_to_a_common_length_is_followed(backbone: Backbone, case, make_prompt: MakePrompt):
    """ComfyUI repeats contexts when it batches a prompt with a longer one."""
    short = make_prompt("a dog runs", (1.0,))
    twice = replace(
        short,
        context=short.context.repeat(2, 1),
        gates=short.gates.repeat(2, 1),
        placed=(replace(short.placed[0], rows=(1, 9), values=short.placed[0].values.repeat(1, 2, 1)),),
    )
    with torch.no_grad(), Attachment(backbone, [adapters_of(backbone, 3)]) as attachment:
        with attachment.activate([twice, twice], CPU):
            expected = predict_prompts(backbone, case.latents, case.t, [twice, twice])
        with attachment.activate([short, short], CPU, text_rows=16):
            repeated = predict_prompts(backbone, case.latents, case.t, [twice, twice])
    torch.testing.assert_close(repeated, expected, atol=1e-6, rtol=0)


def test_detaches_after_an_error(backbone: Backbone):
    with pytest.raises(KeyError), Attachment(backbone, [adapters_of(backbone, 3)]):
        raise KeyError
    assert not any(site.module._forward_hooks for site in backbone.sites)


def test_attaching_twice_is_refused(backbone: Backbone):
    with Attachment(backbone, []) as attachment, pytest.raises(RuntimeError, match="detach"):
        attachment.attach()


def test_adapters_equal_merging_them_into_the_weights(backbone: Backbone, case, make_prompt: MakePrompt):
    """Video-side adapters act on every row, so they equal merged weights (text-side ones are gated by row)."""
    chosen = {site.id: site for site in backbone.sites if site.rows != "b text"}
    adapters = {key: value for key, value in adapters_of(backbone, 4).items() if key in chosen}
    prompt = make_prompt("a dog runs", (0.6,), rows=())
    with torch.no_grad():
        with Attachment(backbone, [adapters]) as attachment, attachment.activate([prompt, prompt], CPU):
            attached = predict_prompts(backbone, case.latents, case.t, [prompt, prompt])
        originals = {key: site.module.weight.clone() for key, site in chosen.items()}
        try:
            for key, site in chosen.items():
                site.module.weight += 0.6 * adapters[key].b @ adapters[key].a
            merged = predict_prompts(backbone, case.latents, case.t, [prompt, prompt])
        finally:
            for key, site in chosen.items():
                site.module.weight.copy_(originals[key])
    torch.testing.assert_close(attached, merged, atol=2e-5, rtol=1e-4)


def test_a_motion_is_told_from_a_subject_by_its_linears(backbone: Backbone):
    assert all(".self_attn." in site or ".ffn." in site for site in backbone.site_ids("motion"))
    assert all(".cross_attn." in site for site in backbone.site_ids("subject"))
    assert backbone.site_ids("style") == backbone.site_ids("subject")
    assert set(backbone.site_ids("motion")) | set(backbone.site_ids("subject")) == {site.id for site in backbone.sites}


def learner(backbone: Backbone, kind: str = "subject", steps: int = 4) -> ConceptLearner:
    generator = torch.Generator().manual_seed(5)
    examples = [
        Example(torch.randn(4, 3, 4, 6, generator=generator), "a <rex> runs"),
        Example(torch.randn(4, 3, 4, 6, generator=generator), "<rex> on grass"),
    ]
    settings = LearningSettings(steps=steps, rank=2, lr=1e-2, token_lr=1e-2, batch=2)
    return ConceptLearner(backbone, examples, "rex", kind, "dog", settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["subject", "motion"])
def test_learning_is_the_same_on_every_backbone(backbones: dict[str, Backbone], kind: str, training: None):
    concepts = []
    for backbone in backbones.values():
        student = learner(backbone, kind)
        with Attachment(backbone, [student.live_adapters()]) as attachment:
            losses = [student.step(attachment).loss for _ in range(4)]
        assert all(0 < loss < 100 for loss in losses)
        concepts.append(student.concept())
    assert concepts[0].adapters.keys() == concepts[1].adapters.keys()
    # AdamW's first steps are signs of gradients: where one is near zero, float32 noise is amplified.
    torch.testing.assert_close(concepts[0].tokens, concepts[1].tokens, atol=4e-3, rtol=0)
    assert concepts[0].tokens.abs().max() > 1e-3


def test_checkpointing_gives_the_same_gradients(backbone: Backbone, training: None):
    results = []
    for checkpointed in (False, True):
        student = learner(backbone, steps=2)
        attachment = Attachment(backbone, [student.live_adapters()])
        with attachment:
            if checkpointed:
                with backbone.checkpointing():
                    student.step(attachment), student.step(attachment)
            else:
                student.step(attachment), student.step(attachment)
        results.append(student.concept())
    torch.testing.assert_close(results[0].tokens, results[1].tokens, atol=1e-6, rtol=0)
    for site, low_rank in results[0].adapters.items():
        torch.testing.assert_close(low_rank.b, results[1].adapters[site].b, atol=1e-6, rtol=0)


def test_same_seed_gives_the_same_concept_and_a_resumed_one_equals_it(backbone: Backbone, training: None):
    through = learner(backbone)
    with Attachment(backbone, [through.live_adapters()]) as attachment:
        for _ in range(4):
            through.step(attachment)
    first = learner(backbone)
    with Attachment(backbone, [first.live_adapters()]) as attachment:
        for _ in range(2):
            first.step(attachment)
    saved = {key: value.clone() for key, value in first.state().items()}
    resumed = learner(backbone)
    resumed.load_state(saved)
    with Attachment(backbone, [resumed.live_adapters()]) as attachment:
        for _ in range(2):
            resumed.step(attachment)
    assert resumed.done == 4
    one, other = through.concept(), resumed.concept()
    assert torch.equal(one.tokens, other.tokens) and torch.equal(one.keys, other.keys)
    for site, low_rank in one.adapters.items():
        assert torch.equal(low_rank.a, other.adapters[site].a) and torch.equal(low_rank.b, other.adapters[site].b)
