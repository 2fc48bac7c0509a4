"""Layer-specific concept tokens (CCVD section "concept-specific attribute retention"; DESIGN 2.1).

In the paper tokens y are learned before the text encoder E: layer l reads c^l = E(e + y^l), e the prompt's word
embeddings, so that a prompt costs one encoder pass per layer, and learning goes back through the encoder. That is
`token_injection="encoder"`, for encoders small enough (`Backbone.encode_with`). By default, "output", they are added to
what the encoder gives, c^l[pos] = c[pos] + y^l: the encoder runs once per prompt, and never while learning.

Both end as values added to rows of the prompt's context: after the encoder, to those of the class words; before it, to
every row, since the encoder reads y^l of all mentions together. Only this file knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone, EncodeWith
from ..concepts.concept import TokenInjection
from ..errors import CCVDError
from .mentions import Prompt, mention_rows


@dataclass(frozen=True)
class PlacedTokens:
    """What is added to some rows of a prompt's context: `values` [layers, rows, width] at `rows`.

    `concept` is the one whose mention the rows are; None: rows of other words, which tokens before the encoder have
    moved. `injection`: "encoder" for values that are still to be read by the encoder (`read_tokens`).
    """

    concept: str | None
    rows: tuple[int, ...]
    values: Float[Tensor, "layers rows width"]
    injection: TokenInjection = "output"


def place_tokens(
    prompt: Prompt,
    pieces: Sequence[str],
    tokens: Mapping[str, Float[Tensor, "layers words width"]],
    injections: Mapping[str, TokenInjection],
) -> tuple[PlacedTokens, ...]:
    """Find every mention's rows and give it its concept's tokens. Raises CCVDError when the words are not there."""
    placed = []
    for mention in prompt.mentions:
        rows, values = mention_rows(pieces, mention), tokens[mention.concept]
        if not values.shape[1]:  # an imported LoRA changes nothing about its words, but they are its own
            values = values.new_zeros(len(values), len(rows), values.shape[2])
        if len(rows) != values.shape[1]:
            raise CCVDError(
                f"<{mention.concept}> was learned with {values.shape[1]} text rows for {mention.class_words!r}, but "
                f"this prompt's tokenizer gives {len(rows)}: it was learned with another text encoder."
            )
        placed.append(PlacedTokens(mention.concept, rows, values, injections[mention.concept]))
    return tuple(placed)


def encoder_for(backbone: Backbone, concept: str | None) -> EncodeWith:
    """The text encoder that this concept's tokens are added before. Raises CCVDError where that is not possible."""
    if backbone.encode_with is None:
        raise CCVDError(
            f"The tokens of <{concept}> are added before the text encoder (token_injection='encoder'), which is not "
            f"possible with the text encoder of this model ({backbone.fingerprint.architecture}) as it is loaded here. "
            "Learn it with token_injection='output', as Learn Concept does, or leave it out of the prompt."
        )
    return backbone.encode_with


def read_tokens(
    backbone: Backbone, text: str, context: Float[Tensor, "rows width"], placed: Sequence[PlacedTokens]
) -> tuple[PlacedTokens, ...]:
    """Let the encoder read tokens that are added before it; what they change in the context takes their place.

    All mentions are read together, once per layer: c^l - c on the mentions' own rows and on those of other words. Keeps
    gradients to the tokens. Tokens that are zero change nothing, so that nothing is read again for them.
    """
    early = [
        tokens
        for tokens in placed
        if tokens.injection == "encoder" and (tokens.values.requires_grad or bool(tokens.values.any()))
    ]
    if not early:
        return tuple(placed)
    encode_with = encoder_for(backbone, early[0].concept)
    rows = [row for tokens in early for row in tokens.rows]
    change = encode_with(text, rows, torch.cat([tokens.values for tokens in early], 1)).to(context) - context
    read = []
    for tokens in placed:
        values = change[:, list(tokens.rows)]
        if tokens.injection == "output":
            values = values + tokens.values.to(context)
        read.append(replace(tokens, values=values, injection="output"))
    own = {row for tokens in placed for row in tokens.rows}
    others = tuple(row for row in range(len(context)) if row not in own)
    if others:
        read.append(PlacedTokens(None, others, change[:, list(others)]))
    return tuple(read)


def own_rows(placed: Sequence[PlacedTokens]) -> dict[str, list[int]]:
    """The rows of every concept that a prompt names."""
    rows: dict[str, list[int]] = {}
    for tokens in placed:
        if tokens.concept is not None:
            rows.setdefault(tokens.concept, []).extend(tokens.rows)
    return rows


def layer_contexts(
    context: Float[Tensor, "rows width"], layers: int, placed: Sequence[PlacedTokens]
) -> Float[Tensor, "layers rows width"]:
    """Every layer's own context c^l. Keeps gradients to the tokens."""
    contexts = context.expand(layers, *context.shape)
    for tokens in placed:
        rows = torch.tensor(tokens.rows, device=context.device)
        contexts = contexts.index_add(1, rows, tokens.values.to(context))
    return contexts
