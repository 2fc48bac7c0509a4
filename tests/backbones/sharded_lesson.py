"""A few steps of a lesson on the demo base whose weights FSDP has shared out: run in each of several processes.

    python -m torch.distributed.run --nproc_per_node 2 tests/backbones/sharded_lesson.py STEPS

The first process prints the losses as JSON. accelerate starts FSDP on GPUs alone; what it shares out is the same here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "demo")]

from base import load_base  # noqa: E402

from ccvd_core.attaching.attachment import Attachment  # noqa: E402
from ccvd_core.headless.launching import share_out_weights  # noqa: E402
from ccvd_core.learning.example import Example  # noqa: E402
from ccvd_core.learning.learner import ConceptLearner  # noqa: E402
from ccvd_core.learning.processes import Processes  # noqa: E402
from ccvd_core.learning.step import LearningSettings  # noqa: E402

SETTINGS = LearningSettings(rank=4, lr=3e-3, batch=4, seed=3)


def mean(values: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(values)
    return values / dist.get_world_size()


def losses(steps: int, processes: Processes, share_out: bool) -> list[float]:
    """Of a lesson on random latents, with the model's weights shared out or whole."""
    base = load_base()
    backbone = base.backbone()  # as on the command line: weights are read once, then shared out
    if share_out:
        share_out_weights(base.transformer.blocks, dist.init_device_mesh("cpu", (dist.get_world_size(),)))
    generator = torch.Generator().manual_seed(0)
    examples = [Example(torch.randn(16, 2, 4, 4, generator=generator), "a <rex> on green grass") for _ in range(3)]
    learner = ConceptLearner(backbone, examples, "rex", "subject", "dog", SETTINGS, processes=processes)
    with Attachment(learner.backbone, [learner.live_adapters()]) as attachment, backbone.checkpointing():
        return [learner.step(attachment).loss for _ in range(steps)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        number, count = dist.get_rank(), dist.get_world_size()
        found = losses(int(sys.argv[1]), Processes(number, count, mean), share_out=True)
        if number == 0:
            print(json.dumps(found), flush=True)
    finally:
        dist.destroy_process_group()
