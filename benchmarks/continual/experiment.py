"""Learns the tasks one after another and measures all tasks so far after each of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from base import DemoBase
from contenders import Family, Learner, When
from drawing import draw_prompts
from lessons import LessonPlan
from results import Row, finished, read_rows, store
from tasks import LOOK_ALIKES
from torch import Tensor
from world import Scene

SEED_STRIDE = 1_000
"""Scenes and noise of seed s start at the captions' seed plus s times this."""


class Judges(Protocol):
    """What `metrics.Judge` does."""

    def judge(self, plan: LessonPlan, clips: Tensor, scenes: Sequence[Scene]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Experiment:
    """The same for all methods. `captions_seed` tells the table's captions from those that settings are chosen on."""

    base: DemoBase
    judge: Judges
    tasks: Sequence[LessonPlan]
    steps: int
    clips: int
    captions_seed: int

    def run(self, family: Family, wanted: Collection[str], seed: int, strength: float) -> Iterator[Row]:
        """Rows of the wanted methods of a family, from one training.

        A seed decides the weights' start, the batches, the judged captions and the clips' noise; a task is always
        judged on the same captions from the same noise, for every method and after every task.
        """
        learner = family.learner(self.base, self.steps, seed, strength)
        methods = [method for method in family.methods if method in wanted]
        for count, task in enumerate(self.tasks, 1):
            began = time.monotonic()
            learner.learn(task)
            learned = time.monotonic() - began
            for method in methods:
                for earlier in measured(family.methods[method], self.tasks[:count], len(self.tasks)):
                    yield from self.measure(learner, method, earlier, count, seed)
            spent = time.monotonic() - began
            print(f"{methods[0]:14} seed {seed} {task.name:8} learned in {learned:.0f} s, {spent:.0f} s", flush=True)

    def measure(self, learner: Learner, method: str, task: LessonPlan, count: int, seed: int) -> Iterator[Row]:
        """Every metric of one task now."""
        captions_seed = self.captions_seed + SEED_STRIDE * seed
        scenes = task.judged_scenes(self.clips, True, captions_seed)
        request = learner.request(method, task, [task.caption(scene) for scene in scenes])
        clips = draw_prompts(self.base, request.adapters, request.prompts, request.negative, captions_seed)
        values = self.judge.judge(task, clips, scenes)
        if request.routing is not None:
            values["routing"] = request.routing
            if LOOK_ALIKES.get(task.name) in [learned.name for learned in self.tasks[:count]]:
                values["routing_lookalike"] = request.routing
        for metric, value in values.items():
            yield Row(method, seed, task.name, count, metric, value)


def measured(when: When, learned: Sequence[LessonPlan], total: int) -> Sequence[LessonPlan]:
    """Which of the tasks learned so far are measured after the newest one."""
    if when == "every" or (when == "ends" and len(learned) == total):
        return learned
    return learned[-1:]


def run_missing(
    experiment: Experiment,
    family: Family,
    chosen: Collection[str],
    seed: int,
    out: Path,
    strength: float | None = None,
    again: bool = False,
) -> None:
    """Learn once and store the chosen methods of a family that the file lacks, or all of them `again`.

    With a `strength` other than the family's own (None), a method is stored as `name=strength`.
    """
    label = {method: method if strength is None else f"{method}={strength:g}" for method in family.methods}
    done = set() if again else finished(read_rows(out))
    wanted = [method for method in family.methods if method in chosen and (label[method], seed) not in done]
    if wanted:
        rows = experiment.run(family, wanted, seed, family.strength if strength is None else strength)
        store([replace(row, method=label[row.method]) for row in rows], out)
