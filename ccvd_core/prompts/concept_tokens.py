"""Layer-specific concept tokens (CCVD section "concept-specific attribute retention"; DESIGN 2.1).

The paper learns the tokens before the text encoder, so a prompt costs one encoder pass per layer, and learning goes
back through the encoder. Ours are added to its output: c^l[pos] = c[pos] + y^l. Only `place_tokens`
knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError
from .mentions import Prompt, mention_rows


@dataclass(frozen=True)
class PlacedTokens:
    """Concept tokens at the rows of one mention: `rows` of the context, `values` [layers, rows, width] to add."""

    concept: str
    rows: tuple[int, ...]
    values: Float[Tensor, "layers rows width"]


def place_tokens(
    prompt: Prompt, pieces: Sequence[str], tokens: dict[str, Float[Tensor, "layers words width"]]
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
        placed.append(PlacedTokens(mention.concept, rows, values))
    return tuple(placed)


def layer_contexts(
    context: Float[Tensor, "rows width"], layers: int, placed: Sequence[PlacedTokens]
) -> Float[Tensor, "layers rows width"]:
    """Every layer's own context c^l. Keeps gradients to the tokens."""
    contexts = context.expand(layers, *context.shape)
    for tokens in placed:
        rows = torch.tensor(tokens.rows, device=context.device)
        contexts = contexts.index_add(1, rows, tokens.values.to(context))
    return contexts
