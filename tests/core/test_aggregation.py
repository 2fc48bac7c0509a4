import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccvd_core.errors import CCVDError
from ccvd_core.prompts.aggregation import (
    PAPER_SETTINGS,
    AggregationSettings,
    aggregation_weights,
    describe_relevance,
    relevance,
    relevance_against_class,
)
from tests.reference import aggregation as naive


def random_case(seed: int, concepts: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 6, 8, generator=generator), torch.randn(concepts, 3, 8, generator=generator)


def test_relevance_is_the_largest_cosine_over_rows():
    contexts, keys = random_case(0)
    contexts[:, 4:] = 0  # padding rows
    expected = torch.tensor(naive.relevance(contexts.double(), keys.double()), dtype=torch.float64)
    torch.testing.assert_close(relevance(contexts, keys).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 4.0, 32.0])
def test_weights_of_the_paper_are_the_normalised_powers(sharpness: float):
    contexts, keys = random_case(1)
    table = relevance(contexts, keys)
    everyone = AggregationSettings(sharpness, participants="all", pinned=False)
    weights = aggregation_weights(table, torch.zeros(4, dtype=torch.bool), everyone)
    expected = torch.tensor([naive.shares(row.tolist(), sharpness) for row in table])
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)


def test_one_concept_in_the_library_has_weight_one():
    contexts, keys = random_case(2, concepts=1)
    table = relevance(contexts, keys).abs()
    torch.testing.assert_close(aggregation_weights(table, torch.tensor([False]), PAPER_SETTINGS), torch.ones(3, 1))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 16), st.integers(0, 4), st.booleans(), st.sampled_from(["named", "all"]))
def test_order_does_not_matter(seed: int, sharpness: float, top_k: int, pinned: bool, participants: str):
    contexts, keys = random_case(seed)
    named = torch.rand(4, generator=torch.Generator().manual_seed(seed)) > 0.5
    chosen = AggregationSettings(sharpness, top_k, participants, pinned)  # type: ignore[arg-type]
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed + 1))
    straight = aggregation_weights(relevance(contexts, keys), named, chosen)
    shuffled = aggregation_weights(relevance(contexts, keys[order]), named[order], chosen)
    torch.testing.assert_close(shuffled, straight[:, order], atol=1e-6, rtol=1e-6)


def test_a_pinned_concept_has_full_weight_whatever_else_is_in_the_library():
    contexts, keys = random_case(3, concepts=6)
    named = torch.tensor([False, True, False, False, True, False])
    weights = aggregation_weights(relevance(contexts, keys), named, AggregationSettings(participants="all"))
    assert (weights[:, named] == 1).all()


def test_named_only_leaves_a_plain_prompt_alone():
    contexts, keys = random_case(4)
    assert not aggregation_weights(
        relevance(contexts, keys), torch.zeros(4, dtype=torch.bool), AggregationSettings()
    ).any()


def test_top_k_keeps_k_per_layer_and_never_drops_a_named_concept():
    contexts, keys = random_case(5, concepts=6)
    table = relevance(contexts, keys).abs()
    named = torch.zeros(6, dtype=torch.bool)
    named[int(table.sum(0).argmin())] = True
    weights = aggregation_weights(table, named, AggregationSettings(top_k=2, participants="all", pinned=False))
    assert ((weights > 0).sum(1) <= 3).all() and (weights[:, named] > 0).all()


def test_against_class_a_plain_class_word_is_not_relevant_but_the_concept_is():
    bare, own = torch.eye(8)[0], torch.nn.functional.normalize(torch.eye(8)[0] + torch.eye(8)[1], dim=0)
    keys, class_keys = own.expand(1, 2, 8), bare.expand(1, 2, 8)
    plain = relevance_against_class(bare.expand(2, 1, 8), keys, class_keys)
    named = relevance_against_class(own.expand(2, 1, 8), keys, class_keys)
    torch.testing.assert_close(plain, torch.zeros(2, 1))
    # cdist takes a root of a difference near zero.
    torch.testing.assert_close(named, torch.ones(2, 1), atol=2e-3, rtol=0)


def test_a_barely_relevant_concept_is_not_raised_to_full_weight_because_it_is_alone():
    weights = aggregation_weights(
        torch.full((3, 1), 0.1), torch.tensor([False]), AggregationSettings(2.0, participants="all")
    )
    torch.testing.assert_close(weights, torch.full((3, 1), 0.01))


@pytest.mark.parametrize(
    "bad", [{"sharpness": 0}, {"sharpness": float("nan")}, {"top_k": -1}, {"participants": "some"}]
)
def test_bad_settings_are_refused(bad: dict):
    with pytest.raises(CCVDError):
        AggregationSettings(**bad)


def test_description_lists_every_layer_and_concept():
    text = describe_relevance(torch.rand(3, 2), torch.rand(3, 2), ["rex", "tram"])
    assert "rex" in text and "tram" in text and len(text.splitlines()) == 2 + 1 + 3
