"""Elastic weight consolidation (Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks").

L = L_u + lambda / 2 * sum_i F_i (theta_i - theta*_i)^2, theta the weights A and B of one LoRA. F is the diagonal of the
Fisher information, E[(dL / dtheta_i)^2] over single examples at the end of a task. As in online EWC (Schwarz et al.
2018) the F of all tasks are summed and theta* is where the last task ended, so that the cost does not grow with tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from training import Adapters, Batch, Model, OneLora, TaskData, parameters, trainable

from ccvd_core.learning.losses import video_loss
from ccvd_core.learning.step import LearningSettings

SEARCH = (1e5, 1e7, 1e9)
"""lambda. Large, because F holds squares of small gradients."""
DEFAULT = 1e5
DRAWS = 40
"""Examples, each with its own noise and time, that F is estimated from."""


class EWC(OneLora):
    """Holds each weight to its last value, the more the earlier tasks depend on it."""

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__(model, strength)
        self.fisher: dict[str, tuple[Tensor, Tensor]] = {}
        """F of A and of B, by Linear id."""

    def extra(self, batch: Batch, live: Adapters) -> Tensor:
        known = [site for site in live if site in self.fisher]
        now = parameters({site: live[site] for site in known})
        then = parameters({site: self.weights[site] for site in known})
        return self.strength * consolidation(now, then, [part for site in known for part in self.fisher[site]])

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        super().finish(live, data, settings)
        single = replace(settings, batch=1)
        for draw in range(DRAWS):
            batch = data.batch(self.model.backbone, single, settings.steps + draw)
            weights = trainable(live)
            prediction = self.model.predict(batch.noisy, batch.t, batch.captions, self.acting(weights))
            video_loss(prediction, batch.target, data.kind, settings).backward()
            for site, lora in weights.items():
                new = tuple(torch.zeros_like(p) if p.grad is None else p.grad**2 / DRAWS for p in (lora.a, lora.b))
                old = self.fisher.get(site, (torch.zeros(()), torch.zeros(())))
                self.fisher[site] = (old[0] + new[0], old[1] + new[1])


def consolidation(now: Sequence[Tensor], then: Sequence[Tensor], fisher: Sequence[Tensor]) -> Tensor:
    """1/2 sum_i F_i (theta_i - theta*_i)^2."""
    moved = [(f * (new - old) ** 2).sum() for new, old, f in zip(now, then, fisher, strict=True)]
    return torch.stack(moved).sum() / 2 if moved else torch.zeros(())
