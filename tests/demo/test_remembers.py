"""The whole continual benchmark on its smallest case: two styles, learned one after another from pictures alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import base as demo_base
import drawing
import pytest
from bases import load_demo
from contenders import CCVDLearner, Family, Learner, RivalLearner
from experiment import Experiment
from lessons import LessonPlan
from rivals.sequential import Sequential
from rows import curves
from tasks import TASKS, TUNING_SEED
from torch import Tensor
from world.judge import score
from world.scenes import FRAMES, Scene

from ccvd_core.concepts.kinds import Kind
from ccvd_core.learning.step import LearningSettings

STEPS, RATE, SAMPLING_STEPS, CLIPS = 40, 4e-3, 8, 4
"""Styles are learned in so few steps at four times the preset's rate."""


class Pictures(Learner):
    """Learns from pictures without their still clips: a third of the tokens."""

    def settings(self, kind: Kind) -> LearningSettings:
        return replace(super().settings(kind), lr=RATE, still_frames=1)


class QuickCCVD(Pictures, CCVDLearner):
    """This pack."""


class QuickRival(Pictures, RivalLearner):
    """A rival of it."""


FAMILIES = (
    Family({"ccvd": "every"}, lambda base, steps, seed, _: QuickCCVD(base, steps, seed, {})),
    Family({"sequential": "every"}, lambda base, steps, seed, _: QuickRival(base, steps, seed, Sequential, 0.0)),
)


class StyleJudge:
    """Whether a picture has the style of its scene."""

    def judge(self, plan: LessonPlan, clips: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
        right = [score(clip.expand(FRAMES, -1, -1, -1), scene).style for clip, scene in zip(clips, scenes, strict=True)]
        return {"identity": sum(right) / len(right)}


@pytest.mark.slow
def test_ccvd_remembers_what_sequential_finetuning_forgets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(demo_base, "LATENT_SHAPE", (16, 1, 16, 16))
    monkeypatch.setattr(drawing, "STEPS", SAMPLING_STEPS)
    first, last = (task for task in TASKS if task.shown in ("noir", "negative"))
    trial = Experiment(load_demo(), StyleJudge(), [first, last], STEPS, CLIPS, TUNING_SEED)
    identity = {}
    for family in FAMILIES:
        (method,) = family.methods
        identity[method] = curves(list(trial.run(family, [method], 0, 0.0)), "identity")[method, 0]
    learned = {method: tasks[first.name][1] for method, tasks in identity.items()}
    remembered = {method: tasks[first.name][2] for method, tasks in identity.items()}
    assert min(learned.values()) >= 0.75, "both learn the first style"
    assert identity["ccvd"][last.name][2] >= 0.75, "and ours the second"
    assert remembered["ccvd"] >= learned["ccvd"] - 0.25
    assert remembered["ccvd"] >= remembered["sequential"] + 0.5
