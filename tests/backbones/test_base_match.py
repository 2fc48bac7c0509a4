"""A concept fits a model when what it adapts is there in the same size; another training of it is only mentioned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.base_match import check_fits_base, misfit, sibling_notes
from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.errors import WrongBaseError
from ccvd_core.prompts.aggregate import aggregate
from tests.backbones.conftest import LAYERS, TEXT_WIDTH
from tests.backbones.scenes import adapters


@pytest.fixture
def rex(backbone: Backbone) -> Concept:
    keys = torch.nn.functional.normalize(torch.ones(LAYERS, TEXT_WIDTH), dim=-1)
    tokens = torch.zeros(LAYERS, 1, TEXT_WIDTH)
    return Concept("rex", "subject", "dog", adapters(backbone, 1, "subject"), tokens, keys, keys, backbone.fingerprint)


def some_key(concept: Concept) -> str:
    return [site for site in concept.adapters if site.endswith(".cross_attn.k")][1]


def wider(concept: Concept, part: str) -> Concept:
    site = some_key(concept)
    lora = concept.adapters[site]
    a, b = (lora.a.repeat(1, 2), lora.b) if part == "a" else (lora.a, lora.b.repeat(2, 1))
    return replace(concept, adapters={**concept.adapters, site: LowRank(a, b)})


def of_text(concept: Concept, layers: int, width: int) -> Concept:
    keys = torch.ones(layers, width)
    return replace(concept, tokens=torch.zeros(layers, 1, width), keys=keys, class_keys=keys)


MISFITS: dict[str, tuple[Callable[[Concept], Concept], str]] = {
    "layers": (lambda c: of_text(c, 5, TEXT_WIDTH), rf"tokens for 5 layers, this model {LAYERS}"),
    "text width": (lambda c: of_text(c, LAYERS, 24), r"tokens are 24 wide, this model's text is 20"),
    "input": (lambda c: wider(c, "a"), r"{site} from {wide} to {out} numbers, this model has {own} to {out}"),
    "output": (lambda c: wider(c, "b"), r"{site} from {own} to {high} numbers, this model has {own} to {out}"),
    "site": (
        lambda c: replace(c, adapters={"blocks.9.cross_attn.k": LowRank(torch.ones(1, 64), torch.ones(64, 1))}),
        r"it adapts blocks\.9\.cross_attn\.k, which this model does not have",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_and_says_where(backbone: Backbone, rex: Concept, case: str):
    change, words = MISFITS[case]
    lora = rex.adapters[some_key(rex)]
    own, out = lora.a.shape[1], lora.b.shape[0]
    words = words.format(site=re.escape(some_key(rex)), own=own, out=out, wide=2 * own, high=2 * out)
    # By its fingerprint it is this very model's: only its sizes tell.
    with pytest.raises(WrongBaseError, match=rf"<rex> was learned on another base model .*does not fit it: .*{words}"):
        aggregate(backbone, "a <rex> runs", [change(rex)])


def test_a_concept_of_a_sibling_is_used_as_it_is_and_mentioned(backbone: Backbone, rex: Concept):
    sibling = replace(rex, base=BaseFingerprint("wan-3x64-ffn96-c36", rex.base.signature))
    retrained = replace(rex, base=replace(rex.base, signature=tuple(v + 0.5 for v in rex.base.signature)))
    for other in (sibling, retrained):
        assert misfit(other, backbone) is None
        check_fits_base([rex, other], backbone)
        (note,) = sibling_notes([rex, other], backbone)
        assert (
            note.startswith("Note: <rex> was learned on another model of this size") and other.base.architecture in note
        )
        one, two = (aggregate(backbone, "a <rex> runs", [concept]).prompt for concept in (rex, other))
        assert torch.equal(one.weights, two.weights)
    assert not sibling_notes([rex], backbone)


def test_a_subject_fits_a_model_with_another_feed_forward(
    backbone: Backbone, rex: Concept, monkeypatch: pytest.MonkeyPatch
):
    """A subject adapts the cross-attention only: what it does not adapt may be of any size."""
    sites = tuple(replace(s, out_features=500) if s.id.endswith("ffn.0") else s for s in backbone.sites)
    monkeypatch.setattr(backbone, "sites", sites)
    assert misfit(rex, backbone) is None
    assert misfit(
        replace(rex, kind="motion", adapters={"blocks.0.ffn.0": LowRank(torch.ones(1, 64), torch.ones(96, 1))}),
        backbone,
    )
