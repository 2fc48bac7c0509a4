"""Learning without forgetting (Li and Hoiem 2016).

L = L_u + lambda * |eps_{u-1}(x_t, c) - eps_u(x_t, c)|^2: what the model as it was before this task predicts for the
new task's own inputs x_t is the target of the model that learns. c is the caption with the class words alone, which is
what the earlier model knows. Needs no old data; before the first task the earlier model is the base. The distillation
runs on half of every batch and makes a step about 1.7 times as long.
"""

from __future__ import annotations

from torch import Tensor
from training import Adapters, Batch, OneLora

SEARCH = (1.0, 3.0, 10.0)
"""lambda."""
DEFAULT = 1.0


class LwF(OneLora):
    """Keeps what the class words show on the new task's inputs."""

    def extra(self, batch: Batch, live: Adapters) -> Tensor:
        part = batch.half()
        return self.strength * self.distilled(part, part.class_captions, live)
