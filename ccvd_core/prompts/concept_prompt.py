"""A prompt with its concepts, ready for a model call (DESIGN 2.1, 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from .concept_tokens import PlacedTokens


@dataclass(frozen=True)
class ConceptPrompt:
    """A prompt ready for a backbone: its context, where concepts stand in it, and how strongly each one acts.

    `weights` [layers, concepts] are aggregation weights times strength; `gates` [rows, concepts] say on which text rows
    a concept's key and value adapters act. Concepts are in the order in which they are attached. `shown` is what the
    model sees beside the text, a start image for example: under the backbone's own names, tensors with a batch of 1.
    """

    context: Float[Tensor, "rows width"]
    placed: tuple[PlacedTokens, ...]
    weights: Float[Tensor, "layers concepts"]
    gates: Float[Tensor, "rows concepts"]
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """True when no concept takes part: the base model alone answers it."""
        return not self.placed and not bool(self.weights.any())
