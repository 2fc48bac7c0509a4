"""Prompts while learning: with the one concept that is learned, or without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..prompts.aggregate import row_gates
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.concept_tokens import own_rows
from .example import ReadExample
from .step import LearningSettings


def taught_prompt(
    backbone: Backbone,
    example: ReadExample,
    name: str,
    tokens: Float[Tensor, "layers words width"],
    settings: LearningSettings,
) -> ConceptPrompt:
    """An example's prompt with the concept `name` alone at full weight, its text adapters on its own rows."""
    placed, device = example.place(backbone, name, tokens, settings.token_injection), example.context.device
    gates = row_gates(len(example.context), own_rows(placed), [name], settings.own_words_only).to(device)
    return ConceptPrompt(example.context, placed, torch.ones(backbone.layers, 1, device=device), gates, example.shown)


def plain_prompt(backbone: Backbone, context: Float[Tensor, "rows width"], shown: Mapping[str, Any]) -> ConceptPrompt:
    """A prompt in which the concept takes no part, shown the same things."""
    nothing, nowhere = torch.zeros(backbone.layers, 1), torch.zeros(len(context), 1)
    return ConceptPrompt(context, (), nothing.to(context.device), nowhere.to(context.device), shown)
