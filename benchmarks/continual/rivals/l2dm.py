"""L2DM (Sun et al. 2023, "Create Your World: Lifelong Text-to-Image Diffusion", arXiv 2309.04430), without old data.

The paper guards prior concepts (what the base knew) with a task-aware memory, and each personal concept with an
elastic-concept distillation from the earlier model. What can be done of it without replaying pictures:

L = L_u + lambda * |eps_{u-1}(x_t, m) - eps_u(x_t, m)|^2, x_t the inputs of the new task, m a caption from the memory.

The memory holds text alone: the class-word captions of the new task (prior concepts), and the captions of all tasks
learned so far (personal concepts). Each row of the distilled half batch draws one of the two kinds with equal chance,
and all past concepts with equal chance.

Left out: the memory bank of old pictures (no method here replays data), the paper's weights of the single concepts in
the distillation (its text was not available to us; here all count alike), and its two attention modules, which act when
a prompt holds several concepts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from training import Adapters, Batch, Model, OneLora, TaskData

from ccvd_core.learning.step import LearningSettings

SEARCH = (1.0, 3.0, 10.0)
"""lambda."""
DEFAULT = 1.0


class L2DM(OneLora):
    """Keeps what earlier captions and class words show, judged on the new task's inputs."""

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__(model, strength)
        self.memory: list[tuple[str, ...]] = []
        """The captions of each task learned so far."""
        self._generator = torch.Generator().manual_seed(0)

    def extra(self, batch: Batch, live: Adapters) -> Tensor:
        part = batch.half()
        captions = [self.remembered(own) for own in part.class_captions]
        return self.strength * self.distilled(part, captions, live)

    def remembered(self, class_caption: str) -> str:
        """A caption from the memory; before the second task only the class words are in it."""
        if not self.memory or self._draw(2) == 0:
            return class_caption
        captions = self.memory[self._draw(len(self.memory))]
        return captions[self._draw(len(captions))]

    def finish(self, live: Adapters, data: TaskData, settings: LearningSettings) -> None:
        super().finish(live, data, settings)
        self.memory.append(data.captions)

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self._generator))
