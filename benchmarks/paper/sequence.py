"""The sequence of tasks: a small JSON file of folders, class words, captions and prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccvd_core.concepts.kinds import KINDS, Kind
from ccvd_core.errors import CCVDError


@dataclass(frozen=True)
class Task:
    """One concept: its folder of pictures or clips, and the prompts it is judged on, with `{}` where it stands."""

    folder: str
    name: str
    kind: Kind
    class_words: str
    caption: str
    prompts: Sequence[str]

    def named(self) -> list[str]:
        """The prompts that the model is asked."""
        return [prompt.format(f"<{self.name}>") for prompt in self.prompts]

    def said(self) -> list[str]:
        """The same in plain words, for a judge that reads text."""
        return [prompt.format(self.class_words) for prompt in self.prompts]


def read_sequence(path: Path, data: Path) -> list[Task]:
    """The tasks of a file in learning order. Raises CCVDError for one that cannot be learned, before any is."""
    try:
        told: dict[str, Any] = json.loads(path.read_text("utf-8"))
        tasks = [Task(**{"prompts": told["prompts"][one["kind"]], **one}) for one in told["tasks"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CCVDError(f"{path} is no sequence of tasks ({error}). See tasks.json for what belongs in one.") from error
    for task in tasks:
        if task.kind not in KINDS:
            raise CCVDError(f"{path}: the kind of <{task.name}> must be one of {', '.join(KINDS)}; got {task.kind!r}.")
        if f"<{task.name}>" not in task.caption:
            raise CCVDError(f"{path}: the caption of <{task.name}> does not name it: {task.caption!r}.")
        if not all("{}" in prompt for prompt in task.prompts) or not task.prompts:
            raise CCVDError(f"{path}: each prompt of <{task.name}> needs {{}} where the concept stands.")
        if not (data / task.folder).is_dir():
            raise CCVDError(f"{data} has no folder {task.folder}, of <{task.name}>.")
    if len({task.name for task in tasks}) < len(tasks):
        raise CCVDError(f"{path} has two tasks of one name.")
    return tasks
