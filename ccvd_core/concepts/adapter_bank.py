"""Several adapters on one Linear, ranks concatenated, weighted at run time (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

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


def stack_banks(adapters: Sequence[Mapping[str, LowRank]]) -> dict[str, AdapterBank]:
    """The banks of all Linears that some concept adapts; `adapters[u]` maps Linear ids to concept u's LoRA there."""
    banks = {}
    for site in dict.fromkeys(site for concept in adapters for site in concept):
        bank = stack_adapters([concept.get(site) for concept in adapters])
        if bank is not None:
            banks[site] = bank
    return banks


class BankModule(nn.Module):
    """Banks as a module of their own, in a model's number type: its host moves and counts them as it does models."""

    def __init__(self, banks: Mapping[str, AdapterBank], dtype: torch.dtype) -> None:
        super().__init__()
        self._sites = tuple(banks)
        parts = [bank.to(bank.down.device, dtype) for bank in banks.values()]
        self.down, self.up = (
            nn.ParameterList(nn.Parameter(tensor.detach(), requires_grad=False) for tensor in tensors)
            for tensors in ([bank.down for bank in parts], [bank.up for bank in parts])
        )
        self.owner = nn.ParameterList(nn.Parameter(bank.owner, requires_grad=False) for bank in parts)

    def banks(self) -> dict[str, AdapterBank]:
        """By Linear id, where they are now: a host may replace the parameters when it moves them."""
        parts = zip(self._sites, self.down, self.up, self.owner, strict=True)
        return {site: AdapterBank(down, up, owner) for site, down, up, owner in parts}


def gated_delta(
    x: Float[Tensor, "*rows in"], bank: AdapterBank, gate: Float[Tensor, "*#rows ranks"]
) -> Float[Tensor, "*rows out"]:
    """((x A^T) * w) B^T: what the adapters add to a Linear's output.

    `gate` is w, the weight of every rank at each row (broadcast over rows): its concept's aggregation weight of the
    layer times the row gate. Equal to merging dW = sum_j w_j B_j A_j into the Linear (DESIGN 2.2).
    """
    return F.linear(F.linear(x, bank.down) * gate.to(x.dtype), bank.up)


def add_gated_delta(
    output: Float[Tensor, "*rows out"],
    x: Float[Tensor, "*rows in"],
    bank: AdapterBank,
    gate: Float[Tensor, "*#rows ranks"],
) -> Float[Tensor, "*rows out"]:
    """`output + gated_delta`, written into `output`: no further tensor of its size is made."""
    ranks = F.linear(x, bank.down) * gate.to(x.dtype)
    output.view(-1, output.shape[-1]).addmm_(ranks.flatten(0, -2), bank.up.T)
    return output


def owns_its_memory(output: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Whether a Linear's output may be written into: no gradient needs it, and it is a part of nothing else."""
    storage = output.untyped_storage()
    return not (
        torch.is_grad_enabled()
        or not output.is_contiguous()
        or storage.nbytes() != output.nbytes
        or any(storage.data_ptr() == given.untyped_storage().data_ptr() for given in inputs)
        or (output.is_inference() and not torch.is_inference_mode_enabled())
    )
