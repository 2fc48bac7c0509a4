"""Which lesson this is: what decides its result, and where its progress is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..concepts.concept import BaseFingerprint
from ..concepts.kinds import Kind
from .progress_file import ProgressFile
from .step import LearningSettings

RATES = ("lr", "token_lr")


@dataclass(frozen=True)
class LessonJob:
    """Everything that decides a concept: its `description`, with the settings under "settings", and its pixels."""

    description: Mapping[str, Any]
    pixels: str
    """Their digest."""

    @property
    def name(self) -> str:
        """Of the concept that it makes."""
        return self.description["name"]

    def digest(self) -> str:
        """Identifies these pictures with this description."""
        return job_digest({**self.description, "pixels": self.pixels}, [])

    def progress(self, library: Path, earlier: Sequence[str]) -> ProgressFile:
        """Where progress is kept, and what it belongs to; `earlier` are the names of the concepts before it.

        It is taken up with another learning rate too, which is what to try when the loss became NaN; not beside other
        concepts, since the retention loss depends on what was learned before.
        """
        settings = {key: value for key, value in self.description["settings"].items() if key not in RATES}
        job = LessonJob({**self.description, "settings": settings, "earlier": list(earlier)}, self.pixels)
        return ProgressFile(library / ".progress" / f"{self.name}.safetensors", job.digest())


def lesson_job(
    name: str,
    kind: Kind,
    class_words: str,
    captions: Sequence[str],
    settings: LearningSettings,
    base: BaseFingerprint,
    pixels: Sequence[Tensor],
    **others: Any,
) -> LessonJob:
    """The job of these pictures and clips; `others` are what else decides the result, by name."""
    description = {
        "name": name,
        "kind": kind,
        "class_words": class_words,
        "captions": list(captions),
        "settings": asdict(settings),
        **others,
        "base": asdict(base),
    }
    return LessonJob(description, job_digest({}, list(pixels)))


def job_digest(description: Mapping[str, Any], tensors: list[Tensor]) -> str:
    """Identifies a learning job by everything that decides its result."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
