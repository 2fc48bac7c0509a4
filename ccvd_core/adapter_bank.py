"""Several adapters on one Linear, ranks concatenated, weighted at run time (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .concept import LowRank


@dataclass(frozen=True)
class AdapterBank:
    """The adapters of several concepts on one Linear.

    `down` is A of all concepts stacked, `up` is B of all concepts side by side with each one's scale folded in, and
    `owner` says which concept each rank belongs to.
    """

    down: Float[Tensor, "ranks in"]
    up: Float[Tensor, "out ranks"]
    owner: Int[Tensor, " ranks"]

    def to(self, device: torch.device, dtype: torch.dtype) -> AdapterBank:
        """Itself when it is there already."""
        if self.down.device == device and self.down.dtype == dtype and self.owner.device == device:
            return self
        return AdapterBank(self.down.to(device, dtype), self.up.to(device, dtype), self.owner.to(device))


def stack_adapters(adapters: Sequence[LowRank | None]) -> AdapterBank | None:
    """One bank of the adapters that the concepts 0, 1, ... have on a Linear (None: no adapter there)."""
    present = [(index, adapter) for index, adapter in enumerate(adapters) if adapter is not None]
    if not present:
        return None
    if len(present) == 1 and present[0][1].scale == 1.0:  # while learning, at every step: nothing to copy
        index, adapter = present[0]
        return AdapterBank(adapter.a, adapter.b, torch.full((adapter.rank,), index))
    return AdapterBank(
        torch.cat([adapter.a for _, adapter in present]),
        torch.cat([adapter.b * adapter.scale for _, adapter in present], 1),
        torch.cat([torch.full((adapter.rank,), index) for index, adapter in present]),
    )


def low_rank_delta(
    x: Float[Tensor, "*rows in"], bank: AdapterBank, weight: Float[Tensor, "*#rows concepts"]
) -> Float[Tensor, "*rows out"]:
    """((x A^T) * w) B^T: what the adapters add to a Linear's output.

    `weight` is the concepts' weight at each row (broadcast over rows): the aggregation weight of the layer times the
    row gate. Equal to merging dW = sum_j w_j B_j A_j into the Linear (DESIGN 2.2).
    """
    return gated_delta(x, bank, weight[..., bank.owner])


def gated_delta(
    x: Float[Tensor, "*rows in"], bank: AdapterBank, gate: Float[Tensor, "*#rows ranks"]
) -> Float[Tensor, "*rows out"]:
    """`low_rank_delta` with a weight for every rank."""
    return F.linear(F.linear(x, bank.down) * gate.to(x.dtype), bank.up)
