"""Running the learning loop inside ComfyUI: its memory management, its progress bar, its Cancel."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..ccvd_core.learning import ConceptLearner

CHECKPOINT_SECONDS = 20.0


@contextmanager
def training_mode(model: ModelPatcher, needed_bytes: int) -> Iterator[Any]:
    """Load MODEL for training beside `needed_bytes` and give its diffusion model; always leave ComfyUI as it was.

    The executor runs nodes in inference mode, where nothing can be differentiated: the mode is left, and weights that
    were loaded in it are replaced by equal copies, one at a time.
    """
    was_training = memory.in_training
    with torch.inference_mode(False), torch.enable_grad():
        memory.load_models_gpu([model], memory_required=needed_bytes)
        inner = model.model.diffusion_model
        leave_inference_mode(inner)
        memory.in_training = True
        try:
            yield inner
        finally:
            memory.in_training = was_training


def leave_inference_mode(module: torch.nn.Module) -> None:
    """Replace inference tensors by bit-identical normal ones: autograd refuses to save the former for backward."""
    for name, parameter in list(module.named_parameters()):
        if parameter.is_inference():
            comfy.utils.set_attr_param(module, name, parameter.detach().clone())
    for name, buffer in list(module.named_buffers()):
        if buffer.is_inference():
            comfy.utils.set_attr_buffer(module, name, buffer.clone())


def job_digest(description: Mapping[str, Any], tensors: list[Tensor]) -> str:
    """Identifies a learning job by everything that decides its result."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass
class Checkpoint:
    """Progress of one job on disk: taken up again after Cancel, an error or a killed process."""

    path: Path
    job: str
    losses: list[float] = field(default_factory=list)

    def save(self, learner: ConceptLearner) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        metadata = {"job": self.job, "losses": json.dumps(self.losses)}
        save_file({key: value.cpu() for key, value in learner.state().items()}, partial, metadata)
        partial.replace(self.path)

    def restore(self, learner: ConceptLearner) -> bool:
        """Load progress of this very job into the learner; another job's or a damaged file is left aside."""
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("job") != self.job:
                    return False
                learner.load_state({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 - not a dict
        except FileNotFoundError:
            return False
        except (OSError, SafetensorError) as error:
            logging.warning("CCVD: saved progress %s cannot be read (%s): starting afresh", self.path, error)
            return False
        self.losses[:] = json.loads(metadata["losses"])
        return True

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Clock:
    """Time left, from the pace of the steps of this run."""

    def __init__(self, done: int, total: int) -> None:
        self._began, self._first, self._total = time.monotonic(), done, total

    def left(self, done: int) -> float:
        steps = max(1, done - self._first)
        return (time.monotonic() - self._began) / steps * (self._total - done)


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
