"""Learns the tasks one after another and measures all tasks so far after each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bases import Base
from contenders import Family, Request, When
from drawing import draw_prompts
from lessons import LessonPlan
from rows import Row, finished
from tasks import LOOK_ALIKES
from torch import Tensor
from world.scenes import Scene

SEED_STRIDE = 1_000
"""Scenes and noise of seed s start at the captions' seed plus s times this."""


class Judges(Protocol):
    """What `metrics.Judge` does."""

    def judge(self, plan: LessonPlan, clips: Tensor, scenes: Sequence[Scene]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Experiment:
    """The same for all methods. `captions_seed` tells the table's captions from those that settings are chosen on."""

    base: Base
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
        drawn: dict[tuple[str, str], dict[str, float]] = {}
        for count, task in enumerate(self.tasks, 1):
            began = time.monotonic()
            learner.learn(task)
            learned = time.monotonic() - began
            for method in methods:
                for earlier in measured(family.methods[method], self.tasks[:count], len(self.tasks)):
                    scenes = earlier.judged_scenes(self.clips, True, self._judged_seed(seed), self.base.known)
                    request = learner.request(method, earlier, [earlier.caption(scene) for scene in scenes])
                    key = earlier.name, request.digest()
                    if key not in drawn:  # what was drawn before would be drawn again, to the last bit
                        drawn[key] = self._judged(earlier, scenes, request, seed)
                    values = drawn[key] | self._routing(request, earlier, count)
                    for metric, value in values.items():
                        yield Row(method, seed, earlier.name, count, metric, value)
            spent = time.monotonic() - began
            print(f"{methods[0]:14} seed {seed} {task.name:8} learned in {learned:.0f} s, {spent:.0f} s", flush=True)

    def _judged_seed(self, seed: int) -> int:
        return self.captions_seed + SEED_STRIDE * seed

    def _judged(self, task: LessonPlan, scenes: Sequence[Scene], request: Request, seed: int) -> dict[str, float]:
        start = self._judged_seed(seed)
        seeds = range(start, start + len(request.prompts))
        clips = draw_prompts(self.base, request.adapters, request.prompts, request.negative, seeds)
        return self.judge.judge(task, clips, scenes)

    def _routing(self, request: Request, task: LessonPlan, count: int) -> dict[str, float]:
        values = {}
        if request.routing is not None:
            values["routing"] = request.routing
            if LOOK_ALIKES.get(task.name) in [learned.name for learned in self.tasks[:count]]:
                values["routing_lookalike"] = request.routing
        return values


EVERY: dict[When, float] = {"every": 1, "often": 5, "ends": math.inf, "once": math.inf}
"""After how many tasks all so far are measured; but for `once`, after the last one too."""


def measured(when: When, learned: Sequence[LessonPlan], total: int) -> Sequence[LessonPlan]:
    """Which of the tasks learned so far are measured after the newest one."""
    if len(learned) % EVERY[when] == 0 or (when != "once" and len(learned) == total):
        return learned
    return learned[-1:]


@dataclass(frozen=True)
class Job:
    """One training and what is measured of it. `strength` None is the family's own; others are stored as `name=x`."""

    family: int
    methods: tuple[str, ...]
    seed: int
    strength: float | None = None

    def label(self, method: str) -> str:
        return method if self.strength is None else f"{method}={self.strength:g}"


def missing(
    families: Sequence[Family],
    chosen: Collection[str],
    seeds: Sequence[int],
    rows: Sequence[Row],
    tuning: bool = False,
) -> list[Job]:
    """What is still to be done to have the chosen methods in `rows`, at every value of their search if `tuning`."""
    done, jobs = finished(rows), []
    for seed in seeds:
        for index, family in enumerate(families):
            for strength in family.search if tuning and family.search else (None,):
                job = Job(index, tuple(method for method in family.methods if method in chosen), seed, strength)
                left = tuple(method for method in job.methods if (job.label(method), seed) not in done)
                if left:
                    jobs.append(replace(job, methods=left))
    return jobs


def perform(experiment: Experiment, families: Sequence[Family], job: Job) -> list[Row]:
    """The rows of a job."""
    family = families[job.family]
    strength = family.strength if job.strength is None else job.strength
    return [
        replace(row, method=job.label(row.method)) for row in experiment.run(family, job.methods, job.seed, strength)
    ]
