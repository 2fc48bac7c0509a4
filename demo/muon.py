"""Muon with batched Newton-Schulz iterations: matrices of one shape are orthogonalised together.

`torch.optim.Muon` handles one matrix at a time and only true matrices; on two cores its per-matrix overhead costs as
much as a training step of these small models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from number_types import fast_dtype
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices, [n, rows, columns], by the quintic Newton-Schulz iteration (Jordan 2024)."""
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(fast_dtype())
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; convolution kernels count as [out, in * taps] matrices.

    The update is scaled to the root mean square of an AdamW update (0.2 * sqrt(max(rows, columns))), so that one
    learning rate serves both.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                update = param.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                by_shape[(update.shape[0], update.shape[1])].append((param, update))
            for (rows, columns), entries in by_shape.items():
                updates = orthogonalise(torch.stack([update for _, update in entries]))
                scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for (param, _), update in zip(entries, updates, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"])
                    param.sub_(update.view_as(param), alpha=scale)
