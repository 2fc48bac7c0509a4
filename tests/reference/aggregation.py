"""CCVD's aggregation, one number at a time (DESIGN 2.2)."""

from __future__ import annotations

import math

from torch import Tensor


def relevance(contexts: Tensor, keys: Tensor) -> list[list[float]]:
    """H[l][u] = max_i cos(c_i^l, h_u^l)."""
    layers, rows, _ = contexts.shape
    table = []
    for layer in range(layers):
        line = []
        for concept in range(keys.shape[0]):
            best = -math.inf
            for row in range(rows):
                a, b = contexts[layer, row].tolist(), keys[concept, layer].tolist()
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
                best = max(best, dot / lengths if lengths else 0.0)
            line.append(best)
        table.append(line)
    return table


def shares(relevances: list[float], sharpness: float) -> list[float]:
    """zeta_j = relu(H_j)^p / sum_k relu(H_k)^p."""
    powers = [max(0.0, value) ** sharpness for value in relevances]
    total = sum(powers)
    return [power / total if total else 0.0 for power in powers]
