"""Region attention, its masks and the noise merge, token by token, as the design states them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def owner(boxes: Sequence[tuple[float, float, float, float]], y: float, x: float) -> int:
    """The frontmost box (from 1) that holds a point; 0 for none."""
    found = 0
    for number, (left, top, width, height) in enumerate(boxes, 1):
        if left <= x < left + width and top <= y < top + height:
            found = number
    return found


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(output [hidden], probabilities [heads, rows]) of one query."""
    size = len(q) // heads
    out, shares = torch.zeros_like(q), torch.zeros(heads, len(k), dtype=q.dtype)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = [float(q[part] @ row[part]) / math.sqrt(size) for row in k]
        largest = max(scores)
        powers = [math.exp(score - largest) for score in scores]
        for row, power in enumerate(powers):
            shares[head, row] = power / sum(powers)
            out[part] += shares[head, row] * v[row, part]
    return out, shares


def region_attention(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], masks: Tensor, heads: int) -> Tensor:
    """sum_k m_k(n) Attention(q_n, k_k, v_k) for one clip: q [tokens, hidden], masks [prompts, tokens]."""
    out = torch.zeros_like(q)
    for token in range(len(q)):
        for prompt in range(len(keys)):
            answer, _ = softmax_attention(q[token], keys[prompt], values[prompt], heads)
            out[token] += masks[prompt, token] * answer
    return out


def attention_mass(q: Tensor, k: Tensor, words: Sequence[int], share: Tensor, heads: int) -> float:
    """Mean over heads and (weighted) tokens of the attention on the rows `words`."""
    total = weight = 0.0
    for token in range(len(q)):
        _, shares = softmax_attention(q[token], k, k, heads)
        total += float(share[token]) * sum(float(shares[:, row].mean()) for row in words)
        weight += float(share[token])
    return total / weight


def merge(whole: Tensor, own: Tensor, masks: Tensor, masses: Sequence[float], alpha: float) -> Tensor:
    """E, latent by latent; NaN masses are unknown and count as the mean."""
    known = [1 / a for a in masses if not math.isnan(a)]
    result = whole.clone()
    for region, a in enumerate(masses):
        w = 1.0 if math.isnan(a) else (1 / a) / (sum(known) / len(known))
        b = min(1.0, max(0.0, (1 - alpha) * w))
        for channel in range(whole.shape[0]):
            for place in torch.cartesian_prod(*(torch.arange(size) for size in whole.shape[1:])):
                f, y, x = (int(i) for i in place)
                change = own[region, channel, f, y, x] - whole[channel, f, y, x]
                result[channel, f, y, x] += masks[region, f, y, x] * b * change
    return result
