"""Retention loss: keep a new concept's low-rank subspaces apart from the earlier ones' (CIDM eq. 4; DESIGN 2.1).

rho(R_j, R_u) = |R_j^T R_u|_F^2 / (r_j r_u), R = B with columns of unit length. Summed over the earlier concepts j it is
|V^T R_u|_F^2 / r_u with V = [R_1 / sqrt(r_1), R_2 / sqrt(r_2), ...]: no loop over concepts inside a training step, and
V never has more columns than B has rows, since only V V^T matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import CCVDError

RetentionForm = Literal["subspace", "trace"]
FORMS: tuple[RetentionForm, ...] = get_args(RetentionForm)

Subspaces = Mapping[str, Float[Tensor, "out rank"]]
"""B of one concept by Linear id."""


SMALLEST = 1e-3
"""Columns much shorter than this count less than unit length: LoRA starts at B = 0, where directions mean nothing."""


def unit_columns(b: Float[Tensor, "out rank"]) -> Float[Tensor, "out rank"]:
    """R: the columns of B at unit length, smoothly going to zero for columns shorter than SMALLEST."""
    return b * torch.rsqrt(b.square().sum(0, keepdim=True) + SMALLEST**2)


def fold(basis: Float[Tensor, "out k"] | None, b: Float[Tensor, "out rank"]) -> Float[Tensor, "out k2"]:
    """Add one concept's subspace to V, at most `out` columns: V V^T gains R R^T / r exactly."""
    columns = unit_columns(b.float()) / b.shape[1] ** 0.5
    joined = columns if basis is None else torch.cat([basis, columns], 1)
    if joined.shape[1] <= joined.shape[0]:
        return joined
    # joined^T = Q L^T, so L L^T = joined joined^T; ten times faster than an SVD.
    return torch.linalg.qr(joined.mT, mode="r").R.mT


def subspace_penalty(basis: Float[Tensor, "out k"], b: Float[Tensor, "out rank"]) -> Float[Tensor, ""]:
    """sum_j |R_j^T R_u|_F^2 / (r_j r_u) from the folded basis; 0 for orthogonal subspaces, at most 1 per concept."""
    columns = unit_columns(b)
    return (basis.to(columns).mT @ columns).square().sum() / b.shape[1]


def trace_penalty(stack: Float[Tensor, "concepts out rank"], b: Float[Tensor, "out rank"]) -> Float[Tensor, ""]:
    """sum_j |tr(R_j R_u^T)| with R = B as printed in the papers, absolute value per j so that it is bounded below."""
    return torch.einsum("jor,or->j", stack.to(b), b).abs().sum()


@dataclass
class Retention:
    """What a new concept must stay apart from, folded per Linear."""

    form: RetentionForm = "subspace"
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise CCVDError(f"The retention form must be one of {', '.join(FORMS)}; got {self.form!r}.")

    def remember(self, subspaces: Subspaces) -> None:
        """Fold in a learned concept. `trace` needs the same rank everywhere; raises CCVDError otherwise."""
        for site, b in subspaces.items():
            known = self.memory.get(site)
            if self.form == "subspace":
                self.memory[site] = fold(known, b.detach())
                continue
            if known is not None and known.shape[1:] != b.shape:
                raise CCVDError(
                    f"The trace form compares adapters of one rank: {site} has rank {known.shape[2]} in earlier "
                    f"concepts and {b.shape[1]} here. Learn with the same rank or use the subspace form."
                )
            new = b.detach().float().unsqueeze(0)
            self.memory[site] = new if known is None else torch.cat([known, new])

    def loss(self, subspaces: Subspaces) -> Float[Tensor, ""]:
        """Sum over Linears of the penalty of a new concept's subspaces against everything remembered."""
        penalty = subspace_penalty if self.form == "subspace" else trace_penalty
        shared = [penalty(self.memory[site], b) for site, b in subspaces.items() if site in self.memory]
        return torch.stack(shared).sum() if shared else torch.zeros(())

    def to(self, device: torch.device) -> Retention:
        return Retention(self.form, {site: memory.to(device) for site, memory in self.memory.items()})


def remember_all(form: RetentionForm, earlier: Iterable[Subspaces]) -> Retention:
    """Retention against all earlier concepts, in any order."""
    retention = Retention(form)
    for subspaces in earlier:
        retention.remember(subspaces)
    return retention
