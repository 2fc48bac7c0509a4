"""Regions on every backbone: exact where they must change nothing, and local where they act. In float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.grid import as_rows
from ccvd_core.errors import CCVDError
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.region import RegionError
from ccvd_core.regions.regional_prompt import AnyPrompt, predict_prompts
from tests.backbones.scenes import ALL, LEFT, RIGHT, adapters, region, scene, two_concepts
from tests.reference import regions as reference

CPU = torch.device("cpu")
MakePrompt = Callable[..., ConceptPrompt]
EXACT = {"atol": 1e-10, "rtol": 1e-10}
SOFT = {"atol": 1e-6, "rtol": 1e-5}
"""Masks and weights are float32: shares of a third do not sum to exactly 1."""


def predicted(backbone: Backbone, attachment: Attachment, case, *prompts: AnyPrompt) -> Tensor:
    """A prediction for the case's two clips with these prompts, in float64."""
    latents, t = case.latents.double(), case.t.double()
    with attachment.activate(prompts, CPU, grid=backbone.grid(latents.shape[1:])):
        return predict_prompts(backbone, latents, t, prompts)


@pytest.mark.parametrize("blend", [0.0, 0.7])
def test_identical_regions_are_the_prompt_itself(double: Backbone, case, one: ConceptPrompt, blend: float):
    overlapping = scene([one, one, one], region(0, 0, 0.6, 0.7), region(0.4, 0.2, 0.6, 0.8), blend=blend)
    with two_concepts(double) as attachment:
        plain = predicted(double, attachment, case, one, one)
        ours = predicted(double, attachment, case, overlapping, overlapping)
    torch.testing.assert_close(ours, plain, **(SOFT if blend else EXACT))


def test_one_full_frame_region_is_its_prompt(double: Backbone, case, one: ConceptPrompt, other: ConceptPrompt):
    with two_concepts(double) as attachment:
        plain = predicted(double, attachment, case, one, other)
        covered = predicted(double, attachment, case, scene([other, one], ALL), scene([one, other], ALL))
    torch.testing.assert_close(covered, plain, **EXACT)


def test_the_later_region_is_in_front(double: Backbone, case, one: ConceptPrompt, other: ConceptPrompt):
    with two_concepts(double) as attachment:
        plain = predicted(double, attachment, case, one, other)
        stacked = scene([other, other, one], ALL, ALL), scene([one, one, other], ALL, ALL)
        torch.testing.assert_close(predicted(double, attachment, case, *stacked), plain, **EXACT)


def test_a_plain_row_beside_a_scene_is_the_base(double: Backbone, case, make_prompt, one: ConceptPrompt):
    plain = make_prompt("a green fox", (0.0, 0.0), rows=())
    with two_concepts(double) as attachment:
        alone = predicted(double, attachment, case, plain, plain)
        both = predicted(double, attachment, case, scene([plain, one], LEFT), plain)
        turned = predicted(double, attachment, case, plain, scene([plain, one], LEFT))
    torch.testing.assert_close(both[1], alone[1], **EXACT)
    torch.testing.assert_close(turned[0], alone[0], **EXACT)
    assert (both[0] - alone[0]).abs().max() > 1e-3


def test_each_row_of_a_batch_is_what_it_is_alone(double: Backbone, case, one: ConceptPrompt, other: ConceptPrompt):
    """Two scenes of different regions, and one scene for two rows."""
    first = scene([one, other, one], LEFT, RIGHT)
    second = scene([other, one], region(0, 0, 1, 0.5, to=(0, 0.5, 1, 0.5)))
    with two_concepts(double) as attachment:
        mixed = predicted(double, attachment, case, first, second)
        same = predicted(double, attachment, case, first, first)
        turned = predicted(double, attachment, case, second, second)
    torch.testing.assert_close(mixed[0], same[0], **EXACT)
    torch.testing.assert_close(mixed[1], turned[1], **EXACT)


@pytest.mark.parametrize("blend", [0.0, 1.0])
def test_both_backbones_agree(doubles: dict[str, Backbone], training: None, case, one, other, blend: float):
    prompts = scene([one, other, one], LEFT, region(0.2, 0.3, 0.6, 0.6), blend=blend), other
    results = []
    for backbone in doubles.values():
        with two_concepts(backbone) as attachment:
            results.append(predicted(backbone, attachment, case, *prompts))
    # Both hold float32 tables for time and rotation, made in other orders.
    torch.testing.assert_close(*results, atol=5e-5, rtol=1e-4)


def test_first_layer_against_single_tokens(
    doubles: dict[str, Backbone], training: None, case, one: ConceptPrompt, other: ConceptPrompt
):
    """Queries, keys and values as the first block's own modules make them; then every token on its own."""
    backbone = doubles["comfy"]
    assert isinstance(backbone, ComfyWanBackbone)
    module = backbone._model.blocks[0].cross_attn
    seen: dict[str, Tensor] = {}
    regional = scene([one, other], region(0.3, 0.0, 0.5, 0.6), blend=0.8)

    def keep(_, args, output):
        seen["x"], seen["out"] = args[0], output

    with two_concepts(backbone) as attachment:
        handle = module.register_forward_hook(keep)
        predicted(backbone, attachment, case, regional, regional)
        handle.remove()
        masks = next(iter(attachment._scenes.values()))[1].runs[0].plans[0].masks.double()

    def linear(part: str, rows: Tensor, weight: Callable[[int, int], float]) -> Tensor:
        """One row at a time: the Linear and every concept's adapter at its weight for that row."""
        layer = getattr(module, part)
        out = []
        for number, row in enumerate(rows):
            y = layer(row)
            for concept, bank in enumerate((adapters(backbone, 1), adapters(backbone, 2))):
                lora = bank[f"blocks.0.cross_attn.{part}"]
                y = y + weight(number, concept) * (lora.b.double() @ (lora.a.double() @ row))
            out.append(y)
        return torch.stack(out)

    prompts = regional.prompts
    with torch.no_grad():
        keys, values = [], []
        for prompt in prompts:
            context = prompt.context.double().clone()
            for tokens in prompt.placed:
                for place, row in enumerate(tokens.rows):
                    context[row] += tokens.values[0, place].double()
            hidden = backbone.project_text(context)

            def text(row: int, concept: int, prompt: ConceptPrompt = prompt) -> float:
                return float(prompt.weights[0, concept] * prompt.gates[row, concept])

            keys.append(module.norm_k(linear("k", hidden, text)))
            values.append(linear("v", hidden, text))

        def video(token: int, concept: int) -> float:
            return sum(float(masks[p, token] * prompts[p].weights[0, concept]) for p in range(2))

        q = module.norm_q(linear("q", seen["x"][0], video))
        attended = reference.region_attention(q, keys, values, masks, heads=module.num_heads)
        expected = linear("o", attended, video)
    torch.testing.assert_close(seen["out"][0], expected, **SOFT)


def test_a_motion_acts_on_its_own_tokens_only(double: Backbone, case, make_prompt: MakePrompt):
    """One region dances: row-gated adapters change the first self-attention's Linears there and nowhere else."""
    still, dancing = make_prompt("a dog", (0.0,), rows=()), make_prompt("a dog", (1.0,), rows=())
    site = next(site for site in double.sites if site.role == "motion")
    grid = double.layer_grids(double.grid(case.latents.shape[1:]))[site.layer]
    outputs: list[Tensor] = []
    with torch.no_grad(), Attachment(double, [adapters(double, 1, "motion")]) as attachment:
        handle = site.module.register_forward_hook(lambda _, __, output: outputs.append(output))
        for prompt in (still, dancing, scene([still, dancing], LEFT)):
            predicted(double, attachment, case, prompt, prompt)
        handle.remove()
    none, all_over, regional = outputs
    inside = torch.zeros(2, grid.frames, grid.height, grid.width, 1, dtype=torch.bool)
    inside[..., : grid.width // 3, :] = True  # the left third
    inside = as_rows(inside.flatten(1, 3), site.rows, grid, len(regional))[..., 0]
    torch.testing.assert_close(regional[inside], all_over[inside], **EXACT)
    assert (all_over - none).abs().max() > 1e-2
    assert (regional[~inside] - none[~inside]).abs().max() == 0


def test_contexts_of_other_lengths(double: Backbone, case, one: ConceptPrompt, other: ConceptPrompt):
    """A region's prompt may be longer or shorter than the frame's: nobody attends to the padding between them."""

    def lengthened(prompt: ConceptPrompt) -> ConceptPrompt:
        """Every row twice: attention over it is the same."""
        placed = tuple(
            replace(
                tokens, rows=(*tokens.rows, *(row + 8 for row in tokens.rows)), values=tokens.values.repeat(1, 2, 1)
            )
            for tokens in prompt.placed
        )
        return replace(prompt, context=prompt.context.repeat(2, 1), gates=prompt.gates.repeat(2, 1), placed=placed)

    with two_concepts(double) as attachment:
        expected = predicted(double, attachment, case, *[scene([one, other], LEFT)] * 2)
        longer = predicted(double, attachment, case, *[scene([one, lengthened(other)], LEFT)] * 2)
        shorter = predicted(double, attachment, case, *[scene([lengthened(one), other], LEFT)] * 2)
    torch.testing.assert_close(longer, expected, **EXACT)
    torch.testing.assert_close(shorter, expected, **EXACT)


def test_everything_is_undone(double: Backbone, case, one: ConceptPrompt, other: ConceptPrompt):
    with torch.no_grad():
        plain = Attachment(double, [])
        before = predicted(double, plain, case, one, other)
        with two_concepts(double) as attachment:
            predicted(double, attachment, case, scene([one, other], LEFT), other)
            odd_size = replace(case, latents=torch.zeros(2, 4, 3, 8, 8))
            regional, grid = scene([one, other], LEFT), double.grid(case.latents.shape[1:])
            tokens = double.layer_grids(grid)[0].tokens
            with (
                pytest.raises(CCVDError, match=f"laid out on {tokens} video tokens"),
                attachment.activate([regional] * 2, CPU, grid=grid),
            ):
                predict_prompts(double, odd_size.latents.double(), case.t.double(), [regional] * 2)
        after = predicted(double, plain, case, one, other)
    assert torch.equal(before, after)
    assert not any(module._forward_pre_hooks for text in double.text_inputs() for module in text.module.modules())
    processors = [getattr(getattr(text.module, "attn2", None), "processor", None) for text in double.text_inputs()]
    assert not any(type(processor).__module__.startswith("ccvd_core") for processor in processors)


def test_masks_are_made_once_for_all_steps(double: Backbone, case, one, other, monkeypatch):
    import ccvd_core.attaching.call as active

    calls = []
    monkeypatch.setattr(active, "region_masks", lambda *args: calls.append(args) or region_masks(*args))
    region_masks = __import__("ccvd_core.regions.masks", fromlist=["region_masks"]).region_masks
    prompt = scene([one, other], LEFT)
    with two_concepts(double) as attachment:
        for _ in range(3):
            predicted(double, attachment, case, prompt, prompt)
    assert len(calls) == len(set(double.layer_grids(double.grid(case.latents.shape[1:]))))


def test_attention_mass_is_measured_in_every_layer(double: Backbone, case, one, make_prompt: MakePrompt):
    nothing = make_prompt("a tree", (0.0, 0.0), rows=())
    everything = make_prompt("a b c d e f g", (0.0, 1.0), rows=tuple(range(8)))
    prompts = scene([one, everything, nothing], LEFT, RIGHT), one
    with two_concepts(double) as attachment:
        latents = case.latents.double()
        with attachment.activate(prompts, CPU, grid=double.grid(latents.shape[1:]), measure=True):
            predict_prompts(double, latents, case.t.double(), prompts)
            masses = attachment.attention_masses()
    assert masses[1] is None and masses[0] is not None
    # The concept's words are all rows of the prompt, so all attention falls on them; the tree has no concept.
    assert float(masses[0][0]) == pytest.approx(1.0, abs=1e-5) and masses[0][1].isnan()


def test_regions_need_a_grid_and_matching_prompts(double: Backbone, case, one: ConceptPrompt):
    with pytest.raises(RegionError, match="1 regions need 2 prompts; got 1"):
        scene([one], LEFT)
    with pytest.raises(RegionError, match="Blend must be between 0"):
        scene([one, one], LEFT, blend=2.0)
    with two_concepts(double) as attachment, pytest.raises(CCVDError, match="token grid"):
        attachment._activate([scene([one, one], LEFT)], CPU, None, None, False)
