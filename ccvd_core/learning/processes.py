"""Several processes that learn one concept together: each takes its share of every batch, gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CCVDError

Average = Callable[[Tensor], Tensor]
"""A tensor -> its mean over all processes; every process asks for the same shapes in the same order."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is; `mean` is not asked when there is only one."""

    number: int = 0
    count: int = 1
    mean: Average = lambda values: values

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.number == 0

    def check_batch(self, batch: int) -> None:
        """Raises CCVDError for a batch of which each process cannot have as many rows as the others."""
        if batch % self.count:
            raise CCVDError(
                f"{self.count} processes share each batch equally: it must be a multiple of {self.count}; got {batch}. "
                f"Set batch to {self.count * max(1, round(batch / self.count))}."
            )

    def share(self, rows: int) -> range:
        """The rows of a batch that are this process's."""
        return range(self.number, rows, self.count)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor its mean over all processes: in one message, whatever their number."""
        if self.count == 1:
            return
        together = self.mean(torch.cat([tensor.detach().flatten().float() for tensor in tensors]))
        for tensor, values in zip(tensors, together.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(values.view_as(tensor))


ALONE = Processes()
