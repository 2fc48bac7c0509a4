"""A lesson's progress on disk: taken up again after Cancel, an error or a killed process."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..concepts.file import digest
from ..concepts.whole_files import write_whole
from .learner import ConceptLearner

LENGTH_BYTES, MAX_HEADER_BYTES = 8, 64 * 1024**2
"""A safetensors file begins with the length of its header. Ours holds the loss of every step."""


@dataclass
class ProgressFile:
    """Progress of one job. `losses` are of all steps so far; `rates` are [step, learning rate] at every change."""

    path: Path
    job: str
    losses: list[float] = field(default_factory=list)
    rates: list[tuple[int, float]] = field(default_factory=list)
    problem: str = ""
    """Why an existing file was not taken up, for the artist."""

    def save(self, learner: ConceptLearner) -> None:
        """Write the file anew, whole or not at all. Raises OSError."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in learner.state().items()}
        metadata = {"job": self.job, "losses": json.dumps(self.losses), "rates": json.dumps(self.rates)}
        metadata["digest"] = digest(metadata, tensors)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, safetensors.torch.save(tensors, metadata))

    def restore(self, learner: ConceptLearner) -> bool:
        """Load progress of this very job into the learner.

        False when there is none. `problem` says so when a file is there and was not taken up: another job's, or one in
        which anything is not as it was written. The learner is then as it was.
        """
        if not self.path.is_file():
            return False
        try:
            metadata, tensors = self._read()
            if metadata["job"] != self.job:
                self.problem = f"The saved progress {self.path} is of other pictures or settings: starting afresh"
                return False
            losses, rates = json.loads(metadata["losses"]), json.loads(metadata["rates"])
            if len(losses) != int(tensors["done"]):
                raise ValueError(f"{len(losses)} losses of {int(tensors['done'])} steps")
            learner.load_state(tensors)
        except Exception as error:  # whatever is wrong with a file that anything may have happened to
            self.problem = f"The saved progress {self.path} is damaged and is not used: starting afresh"
            logging.warning("CCVD: %s (%s)", self.problem, str(error)[:200])
            return False
        self.losses[:], self.rates[:] = losses, [(int(step), float(rate)) for step, rate in rates]
        return True

    @torch.inference_mode(False)
    def _read(self) -> tuple[Mapping[str, str], dict[str, Tensor]]:
        """Metadata and tensors of a file that is as it was written. Raises ValueError and what safetensors raises."""
        data = self.path.read_bytes()
        end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
        if not LENGTH_BYTES < end <= min(len(data), MAX_HEADER_BYTES):
            raise ValueError("its header is cut off")
        header: Any = json.loads(data[LENGTH_BYTES:end])
        metadata: dict[str, str] = header["__metadata__"]
        tensors = safetensors.torch.load(data)
        if digest(metadata, tensors) != metadata["digest"]:
            raise ValueError("its contents do not add up to the checksum it was written with")
        return metadata, tensors

    def remove(self) -> None:
        """Delete the file of a lesson that is done; one that stays only takes space."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            logging.warning("CCVD: the saved progress %s could not be deleted (%s)", self.path, error)
