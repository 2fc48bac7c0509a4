"""Sequential finetuning: one LoRA (Hu et al. 2021), trained on task after task, and nothing against forgetting."""

from __future__ import annotations

import torch
from torch import Tensor
from training import Adapters, Batch, OneLora, TaskData, frozen

from ccvd_core.learning import LearningSettings

SEARCH = ()
"""It has no setting of its own."""


class Sequential(OneLora):
    """theta_u = argmin L_u, started from theta_{u-1}."""

    def extra(self, batch: Batch, live: Adapters) -> Tensor:
        return torch.zeros(())

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        self.weights.update(frozen(live))
