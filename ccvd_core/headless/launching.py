"""How many processes a command runs in: one, or those of `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from ..errors import CCVDError
from ..learning.processes import ALONE, Processes

COUNT = "WORLD_SIZE"
"""What accelerate (and torchrun) tell each process they start: the number of all of them."""


@dataclass(frozen=True)
class Launched:
    """This process among all, its device (None: the usual one), and what spreads a model over them."""

    processes: Processes = ALONE
    device: torch.device | None = None
    spread: Callable[[Iterable[nn.Module]], None] = lambda blocks: None
    """Shares a model's blocks out over the processes, where `accelerate launch` is told to use FSDP."""


def launched() -> Launched:
    """What started this command. Raises CCVDError when several processes were started and accelerate is missing."""
    if int(os.environ.get(COUNT, "1")) < 2:
        return Launched()
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedType
    except ImportError as error:
        raise CCVDError("Learning in several processes needs accelerate: pip install accelerate.") from error
    accelerator = Accelerator()

    def mean(values: Tensor) -> Tensor:
        return accelerator.reduce(values.to(accelerator.device), "mean").to(values.device)  # type: ignore[union-attr]

    def spread(blocks: Iterable[nn.Module]) -> None:
        if accelerator.distributed_type == DistributedType.FSDP:
            share_out_weights(blocks)

    processes = Processes(accelerator.process_index, accelerator.num_processes, mean)
    return Launched(processes, accelerator.device, spread)


def share_out_weights(blocks: Iterable[nn.Module], mesh: DeviceMesh | None = None) -> None:
    """Every process keeps its part of each block's weights, and has a block whole while it computes (torch's FSDP 2).

    The model's few weights outside its blocks stay whole: prompts are projected outside its forward pass.
    """
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block, mesh=mesh)
