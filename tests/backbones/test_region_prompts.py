"""Scenes from prompts, regions and concepts."""

from __future__ import annotations

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.errors import UnknownConceptError
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.regions.region import Keyframe, Region, RegionError, RegionSet
from ccvd_core.regions.scene import aggregate_scene, check_region_prompts, scene_concepts


def region(name: str, prompt: str, strength: float = 1.0) -> Region:
    return Region(name, prompt, "#ffffff", strength, (Keyframe(0.0, (0.0, 0.0, 0.5, 1.0)),))


def regions(*parts: Region) -> RegionSet:
    return RegionSet(64, 64, parts)


@pytest.fixture
def concepts(backbones: dict[str, Backbone]) -> list[Concept]:
    backbone = backbones["diffusers"]

    def concept(name: str, words: str, seed: int) -> Concept:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randn(backbone.layers, 1, backbone.text_width, generator=generator)
        keys = torch.nn.functional.normalize(tokens[:, 0], dim=-1)
        return Concept(name, "subject", words, {}, tokens, keys, keys, backbone.fingerprint)

    return [concept("rex", "dog", 1), concept("kit", "cat", 2)]


def test_every_region_is_aggregated_as_its_prompt_alone(backbone: Backbone, concepts: list[Concept]):
    text = "a park at noon"
    found = aggregate_scene(
        backbone,
        text,
        regions(region("left", "a <rex> runs"), region("kit", "a red <kit>")),
        concepts,
    )
    alone = [aggregate(backbone, part, concepts) for part in (text, "a <rex> runs", "a red <kit>")]
    for ours, expected in zip(found.prompt.prompts, alone, strict=True):
        assert torch.equal(ours.weights, expected.prompt.weights) and torch.equal(ours.gates, expected.prompt.gates)
        assert torch.equal(ours.context, expected.prompt.context)
        assert [t.rows for t in ours.placed] == [t.rows for t in expected.prompt.placed]
    assert not found.prompt.is_plain


def test_read_together_every_region_keeps_its_own_words_of_one_sentence(backbone: Backbone, concepts: list[Concept]):
    parts = regions(region("", "a <rex>"), region("", "red <kit>"))
    whole, left, right = aggregate_scene(backbone, "outside", parts, concepts, reading="together").prompt.prompts
    sentence = backbone.encode("a dog and red cat outside")
    words = [piece.strip() for piece in sentence.pieces]
    joiner, around = words.index("and"), len(words) - 1
    shared = [joiner, *range(around, len(words) + 1)]  # and the row that ends the sentence
    for prompt, own in ((whole, []), (left, [0, 1]), (right, list(range(joiner + 1, around)))):
        rows = sorted([*own, *shared])
        assert torch.equal(prompt.context[: len(rows)], sentence.context[rows].float())
        assert prompt.context.shape == sentence.context.shape and not prompt.context[len(rows) :].any()
    assert not whole.placed and not whole.weights.any()
    assert [t.concept for t in left.placed] == ["rex"] and left.weights[0].tolist() == [1.0, 0.0]
    assert [t.concept for t in right.placed] == ["kit"] and right.weights[0].tolist() == [0.0, 1.0]
    (row,) = right.placed[0].rows
    assert torch.equal(right.context[row], sentence.context[words.index("cat")].float())
    assert right.gates[row, 1] == 1 and right.gates[:, 1].sum() == 1


def test_read_together_one_region_is_the_whole_prompt(backbone: Backbone, concepts: list[Concept]):
    scene = aggregate_scene(backbone, "on grass", regions(region("", "a <rex>")), concepts, reading="together").prompt
    plain = aggregate(backbone, "a <rex> on grass", concepts).prompt
    assert torch.equal(scene.prompts[1].context[:8], plain.context[:8])
    assert torch.equal(scene.prompts[1].weights, plain.weights) and torch.equal(scene.prompts[1].gates, plain.gates)


def test_read_together_a_strength_is_the_regions_own(backbone: Backbone, concepts: list[Concept]):
    parts = regions(region("", "a <rex>", 0.5), region("", "a <kit>", 2.0))
    scene = aggregate_scene(backbone, "a park", parts, concepts, strengths={"rex": 0.8}, reading="together").prompt
    left, right = scene.prompts[1:]
    assert left.weights[0].tolist() == pytest.approx([0.4, 0.0])
    assert right.weights[0].tolist() == pytest.approx([0.0, 2.0])
    torch.testing.assert_close(left.placed[0].values, 0.4 * concepts[0].tokens)
    torch.testing.assert_close(right.placed[0].values, 2.0 * concepts[1].tokens)


def test_read_together_a_concept_of_the_whole_prompt_acts_in_every_region(backbone: Backbone, concepts: list[Concept]):
    parts = regions(region("", "a <rex>", 0.5))
    scene = aggregate_scene(backbone, "near a <kit>", parts, concepts, reading="together").prompt
    assert [prompt.weights[0].tolist() for prompt in scene.prompts] == [[0.0, 1.0], [0.5, 1.0]]
    assert [[t.concept for t in prompt.placed] for prompt in scene.prompts] == [["kit"], ["rex", "kit"]]


def test_a_regions_strength_multiplies_its_concepts(backbone: Backbone, concepts: list[Concept]):
    scene = aggregate_scene(
        backbone,
        "a <rex>",
        regions(region("", "a <rex>", 0.5), region("", "a <rex>", 0.0)),
        concepts,
        strengths={"rex": 0.8},
    ).prompt
    assert [float(prompt.weights[0, 0]) for prompt in scene.prompts] == pytest.approx([0.8, 0.4, 0.0])
    tokens = [prompt.placed[0].values for prompt in scene.prompts]
    torch.testing.assert_close(tokens[1], 0.5 * tokens[0])
    assert not tokens[2].any()


@pytest.mark.parametrize("name", ["rex", " Rex ", "<rex>"])
def test_a_region_named_after_a_concept_must_name_it(name: str):
    with pytest.raises(RegionError, match=r"Region 2 \(.*\) is named after the concept <rex>, but its prompt 'a dog'"):
        check_region_prompts(regions(region("kit", "a <kit>"), region(name, "a dog")), ["rex", "kit"])
    check_region_prompts(regions(region(name, "a <rex>"), region("dog", "a dog")), ["rex", "kit"])


def test_other_mistakes_in_regions(backbone: Backbone, concepts: list[Concept]):
    with pytest.raises(RegionError, match="Region 1 has no prompt"):
        aggregate_scene(backbone, "a park", regions(region("", "  ")), concepts)
    with pytest.raises(RegionError, match="<bob>, but its prompt 'a dog'"):
        check_region_prompts(regions(region("<bob>", "a dog")), ["rex"])
    with pytest.raises(UnknownConceptError, match="<bob>"):
        aggregate_scene(backbone, "a park", regions(region("", "a <bob>")), concepts)


def test_which_concepts_a_scene_needs():
    assert scene_concepts("a <kit>", regions(region("", "a <rex> and <kit>"), region("", "a tree"))) == ("kit", "rex")
    assert scene_concepts("a park", None) == ()
