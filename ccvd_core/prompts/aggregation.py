"""Task-aware concept aggregation: how strongly each layer uses each concept of a library for a prompt (DESIGN 2.2).

H_j^l = max_i cos(c_i^l, h_j^l) over the prompt's context rows i;  zeta_j^l = relu(H_j)^p / sum_k relu(H_k)^p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import CCVDError

Participants = Literal["named", "all"]
PARTICIPANTS: tuple[Participants, ...] = get_args(Participants)


@dataclass(frozen=True)
class AggregationSettings:
    """How concepts share a layer.

    `sharpness` is p. `top_k` keeps the k most relevant concepts per layer (0: all). `participants`: only concepts that
    the prompt names, or all of the library, as in the papers. With `pinned`, every named concept has weight 1 and the
    others at most their own relevance to the power p, so that one concept never dilutes another.
    """

    sharpness: float = 4.0
    top_k: int = 0
    participants: Participants = "named"
    pinned: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.sharpness <= 64:
            raise CCVDError(f"Sharpness must be above 0 and at most 64; got {self.sharpness}.")
        if self.top_k < 0:
            raise CCVDError(f"Top-k must be 0 (all) or more; got {self.top_k}.")
        if self.participants not in PARTICIPANTS:
            raise CCVDError(f"Participants must be one of {', '.join(PARTICIPANTS)}; got {self.participants!r}.")


PAPER_SETTINGS = AggregationSettings(sharpness=2.0, participants="all", pinned=False)
"""The setting printed in the papers."""


def relevance(
    contexts: Float[Tensor, "layers rows width"], keys: Float[Tensor, "concepts layers width"]
) -> Float[Tensor, "layers concepts"]:
    """H_j^l = max over rows of the cosine between c_i^l and h_j^l; rows of zeros (padding) count as 0."""
    rows = F.normalize(contexts.float(), dim=-1)
    return torch.einsum("lrd,uld->lru", rows, F.normalize(keys.float(), dim=-1)).amax(1)


def relevance_against_class(
    contexts: Float[Tensor, "layers rows width"],
    keys: Float[Tensor, "concepts layers width"],
    class_keys: Float[Tensor, "concepts layers width"],
) -> Float[Tensor, "layers concepts"]:
    """How much closer some row is to the concept than to its bare class words, 0..1.

    max_i of (d(c_i, g_j) - d(c_i, h_j)) / (d(c_i, g_j) + d(c_i, h_j)) with d the distance of unit vectors and g the key
    of the class words: 1 on the concept's own rows, 0 on a plain `dog`, near 0 on words far from both, so that `all`
    participants does not bleed into prompts that name only the class.
    """
    rows = F.normalize(contexts.float(), dim=-1)
    to_concept, to_class = (
        torch.cdist(rows, F.normalize(key.float(), dim=-1).transpose(0, 1)) for key in (keys, class_keys)
    )
    return ((to_class - to_concept) / (to_class + to_concept).clamp_min(1e-6)).clamp_min(0).amax(1)


def aggregation_weights(
    relevances: Float[Tensor, "layers concepts"], named: Bool[Tensor, " concepts"], settings: AggregationSettings
) -> Float[Tensor, "layers concepts"]:
    """zeta: each layer's weight of each concept, 0..1. Without pinning, rows sum to 1 (or 0 if nothing takes part)."""
    allowed = named if settings.participants == "named" else torch.ones_like(named)
    powers = torch.where(allowed, relevances, 0).clamp_min(0).double()
    if settings.top_k and settings.top_k < powers.shape[1]:
        least = powers.topk(settings.top_k, dim=1).values[:, -1:]
        # A named concept is never dropped: the artist asked for it.
        powers = torch.where((powers >= least) | named, powers, 0)
    if settings.pinned:
        # The others share what they are worth on their own: a concept that is barely relevant must not be raised to 1
        # because nothing else takes part.
        powers = torch.where(named, 0, powers).pow(settings.sharpness)
        return torch.where(named, 1.0, powers / powers.sum(1, keepdim=True).clamp_min(1.0)).float()
    # Scaling by the largest first keeps high powers away from underflow; the shares do not change.
    powers = (powers / powers.amax(1, keepdim=True).clamp_min(1e-30)).pow(settings.sharpness)
    return (powers / powers.sum(1, keepdim=True).clamp_min(1e-30)).float()


def describe_relevance(
    weights: Float[Tensor, "layers concepts"], relevances: Float[Tensor, "layers concepts"], names: Sequence[str]
) -> str:
    """The heat map as a text table: mean over layers, then every layer. NaN: a concept whose relevance nobody asked."""
    if not names:
        return "The concept library is empty: nothing was aggregated."
    width = max(9, *(len(name) for name in names))
    head = "layer     " + "  ".join(f"{name:>{width}}" for name in names)
    lines = ["Weight of each concept (relevance in brackets)", head]
    rows = [("mean", weights.mean(0), relevances.mean(0))]
    rows += [(str(layer), weights[layer], relevances[layer]) for layer in range(weights.shape[0])]
    for label, layer_weights, layer_relevance in rows:
        pairs = zip(layer_weights.tolist(), layer_relevance.tolist(), strict=True)
        cells = [f"{weight:.2f} ({'-' if math.isnan(value) else f'{value:.2f}'})" for weight, value in pairs]
        lines.append(f"{label:<10}" + "  ".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)
