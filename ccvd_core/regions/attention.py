"""Region attention: one model call in which every token attends to the text of its own region only (DESIGN 2.3).

Inside region k, Attention(q, k_k, v_k) with the keys and values of the region's own prompt; elsewhere those of the
whole frame's. Each token's query meets the rows of one prompt, so the work is that of plain attention for any number
of regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..backbones.base import Kernel


@dataclass(frozen=True, eq=False)
class TokenPlan:
    """Which tokens attend to which prompt: tokens `order`, gathered prompt by prompt, `counts[i]` for `prompts[i]`.

    With hard edges, `inverse` puts the results back. With soft ones a token is gathered once per prompt that counts
    there, and `shares` weighs the results. `masks` is where the plan came from.
    """

    prompts: tuple[int, ...]
    counts: tuple[int, ...]
    order: Int[Tensor, " gathered"]
    inverse: Int[Tensor, " tokens"] | None
    shares: Float[Tensor, "gathered 1"] | None
    masks: Float[Tensor, "prompts tokens"]


def plan_tokens(masks: Float[Tensor, "prompts tokens"]) -> TokenPlan:
    """The plan for masks that sum to 1 per token (see `region_masks`). Prompts without a token cost nothing."""
    owned = masks > 0
    prompt_of, order = owned.nonzero(as_tuple=True)
    counts = owned.sum(1).tolist()
    prompts = tuple(prompt for prompt, count in enumerate(counts) if count)
    hard = len(order) == masks.shape[1]
    return TokenPlan(
        prompts,
        tuple(counts[prompt] for prompt in prompts),
        order,
        order.argsort() if hard else None,
        None if hard else masks[prompt_of, order].unsqueeze(1),
        masks,
    )


def region_attention(
    q: Float[Tensor, "batch tokens hidden"],
    keys: Sequence[Float[Tensor, "batch _ hidden"]],
    values: Sequence[Float[Tensor, "batch _ hidden"]],
    plan: TokenPlan,
    kernel: Kernel,
) -> Float[Tensor, "batch tokens hidden"]:
    """out_n = sum_k m_k(n) Attention(q_n, keys[k], values[k])."""
    parts = [
        kernel(part, keys[prompt], values[prompt])
        for part, prompt in zip(q.index_select(1, plan.order).split(plan.counts, 1), plan.prompts, strict=True)
    ]
    gathered = torch.cat(parts, 1)
    if plan.inverse is not None:
        return gathered.index_select(1, plan.inverse)
    assert plan.shares is not None
    return torch.zeros_like(q).index_add(1, plan.order, gathered * plan.shares.to(gathered))


def attention_mass(
    q: Float[Tensor, "batch tokens hidden"],
    k: Float[Tensor, "batch rows hidden"],
    words: Int[Tensor, " words"],
    share: Float[Tensor, " tokens"],
    heads: int,
    kernel: Kernel,
) -> Float[Tensor, " batch"]:
    """Share of the attention that falls on the rows `words`: mean over heads, and over tokens weighted by `share`.

    One call of the kernel with values that are 1 at those rows and 0 elsewhere, in each head's first channel: no matrix
    of tokens x rows is ever made, whatever the kernel.
    """
    marks = torch.zeros_like(k).unflatten(2, (heads, -1))
    marks[:, words, :, 0] = 1
    fallen = kernel(q, k, marks.flatten(2)).unflatten(2, (heads, -1))[..., 0].float().mean(2)
    share = share.to(fallen)
    return (fallen * share).sum(1) / share.sum()
