"""From a prompt and a set of concepts to what a backbone runs: encode, place tokens, aggregate, gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..backbones.base_match import check_fits_base
from ..concepts.concept import Concept, TokenInjection
from ..prompts.concept_prompt import ConceptPrompt
from .aggregation import AggregationSettings, aggregation_weights, relevance, relevance_against_class
from .concept_tokens import PlacedTokens, layer_contexts, own_rows, place_tokens, read_tokens
from .mentions import parse_prompt


@dataclass(frozen=True)
class Aggregated:
    """A prompt with the concepts' weights, and the relevances behind them for the artist to see."""

    prompt: ConceptPrompt
    weights: Float[Tensor, "layers concepts"]
    relevances: Float[Tensor, "layers concepts"]


def row_gates(
    rows: int, prompt_rows: Mapping[str, Sequence[int]], concepts: Sequence[str], own_rows_only: bool
) -> Float[Tensor, "rows concepts"]:
    """Text rows on which each concept's key and value adapters act.

    A named concept acts on its own rows, so it cannot change what other words mean. A concept that the prompt does not
    name has no rows of its own and acts on all, as in the papers; so do all without `own_rows_only`.
    """
    gates = torch.ones(rows, len(concepts))
    if own_rows_only:
        for column, name in enumerate(concepts):
            if name in prompt_rows:
                gates[:, column] = 0.0
                gates[list(prompt_rows[name]), column] = 1.0
    return gates


def aggregate(
    backbone: Backbone,
    text: str,
    concepts: Sequence[Concept],
    settings: AggregationSettings | None = None,
    strengths: Mapping[str, float] | None = None,
    own_rows_only: bool = True,
) -> Aggregated:
    """Aggregate `concepts` for a prompt that may name them as `<name>` (DESIGN 2.2).

    Raises UnknownConceptError for an unknown name and WrongBaseError for a concept that does not fit the model.
    """
    read = read_prompt(backbone, text, concepts, strengths or {})
    placed = read_tokens(backbone, read.text, read.context, read.mentions)
    return weigh(backbone.layers, read.context, placed, concepts, settings, strengths, own_rows_only)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as the text encoder read it: its plain `text`, the context in fp32 on the CPU, what each of the first
    rows spells, and its concepts' tokens at their mentions, before `read_tokens`."""

    text: str
    context: Float[Tensor, "rows width"]
    pieces: tuple[str, ...]
    mentions: tuple[PlacedTokens, ...]


def read_prompt(
    backbone: Backbone, text: str, concepts: Sequence[Concept], strengths: Mapping[str, float]
) -> ReadPrompt:
    """Read a prompt and place the tokens of the concepts that it names, each times its strength."""
    check_fits_base(concepts, backbone)
    prompt = parse_prompt(text, {concept.name: concept.class_words for concept in concepts})
    encoded = backbone.encode(prompt.text)
    tokens = {concept.name: concept.tokens * strengths.get(concept.name, 1.0) for concept in concepts}
    injections: dict[str, TokenInjection] = {concept.name: concept.token_injection for concept in concepts}
    mentions = place_tokens(prompt, encoded.pieces, tokens, injections)
    return ReadPrompt(prompt.text, encoded.context.float().cpu(), encoded.pieces, mentions)


def weigh(
    layers: int,
    context: Float[Tensor, "rows width"],
    placed: tuple[PlacedTokens, ...],
    concepts: Sequence[Concept],
    settings: AggregationSettings | None = None,
    strengths: Mapping[str, float] | None = None,
    own_rows_only: bool = True,
) -> Aggregated:
    """How strongly each of `concepts` acts on an encoded prompt whose mentions are `placed`."""
    settings, strengths = settings or AggregationSettings(), strengths or {}
    if not concepts:
        nothing = torch.zeros(layers, 0)
        return Aggregated(ConceptPrompt(context, (), nothing, torch.zeros(len(context), 0)), nothing, nothing)
    names = [concept.name for concept in concepts]
    contexts = layer_contexts(context, layers, placed)
    keys = torch.stack([concept.keys for concept in concepts])
    prompt_rows = own_rows(placed)
    named = torch.tensor([name in prompt_rows for name in names])
    if settings.participants == "all" and settings.pinned:
        class_keys = torch.stack([concept.class_keys for concept in concepts])
        relevances = relevance_against_class(contexts, keys, class_keys)
    else:
        relevances = relevance(contexts, keys)
    weights = aggregation_weights(relevances, named, settings)
    strength = torch.tensor([strengths.get(name, 1.0) for name in names])
    gates = row_gates(len(context), prompt_rows, names, own_rows_only)
    return Aggregated(ConceptPrompt(context, placed, weights * strength, gates), weights, relevances)
