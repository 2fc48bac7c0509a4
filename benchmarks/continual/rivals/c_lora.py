"""C-LoRA (Smith et al. 2023, "Continual Diffusion: Continual Customization of Text-to-Image Diffusion with C-LoRA").

One LoRA per task; all earlier ones are frozen and act while the new one learns, and all act in the end:
W_u = W_0 + sum_{j<=u} B_j A_j. A new one is kept off the entries that earlier ones have changed:

L = L_u + lambda * sum_l || |sum_{j<u} B_j A_j| * (B_u A_u) ||_F^2      (entry by entry)

Differs from the paper: it adapts keys and values of the cross-attention only and learns a token per concept in place of
the class words; here Linears, rank and captions are those of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from training import Adapters, Batch, Model, Rival, TaskData, frozen

from ccvd_core.concepts.concept import LowRank
from ccvd_core.learning.step import LearningSettings

SEARCH = (1e2, 1e4, 1e6)
"""lambda. Large, because the penalty is of fourth order in small weights."""
DEFAULT = 1e4


class CLora(Rival):
    """Sums a LoRA per task and regularises each by the earlier sum."""

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__(model, strength)
        self.learned: list[Adapters] = []
        self.changed: dict[str, Tensor] = {}
        """sum_{j<u} B_j A_j by Linear id, [out, in]: the penalty's cost does not grow with tasks."""

    def start(self, fresh: Adapters) -> Adapters:
        return fresh

    def acting(self, live: Adapters) -> Sequence[Adapters]:
        return [*self.learned, live]

    def extra(self, batch: Batch, live: Adapters) -> Tensor:
        shared = [self_regularisation(self.changed[site], live[site]) for site in live if site in self.changed]
        return self.strength * torch.stack(shared).sum() if shared else torch.zeros(())

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        self.learned.append(frozen(live))
        for site, lora in self.learned[-1].items():
            self.changed[site] = self.changed.get(site, torch.zeros(())) + lora.b @ lora.a * lora.scale

    def adapters(self, method: str) -> Sequence[Adapters]:
        return self.learned


def self_regularisation(changed: Tensor, lora: LowRank) -> Tensor:
    """|| |changed| * (B A) ||_F^2 of one Linear, `changed` [out, in]."""
    return (changed.abs() * (lora.b @ lora.a * lora.scale)).square().sum()
