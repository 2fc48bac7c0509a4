"""The steps of one lesson: taken up where they were left, and saved now and then."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence

from ..attaching.attachment import Attachment
from .clock import Clock, minutes
from .learner import ConceptLearner, StepReport
from .progress_file import ProgressFile
from .step import LearningSettings

CHECKPOINT_SECONDS = 20.0
CURVE_POINTS = 200
"""Of the loss curve that a concept's file keeps."""


class LessonLoop:
    """Trains a learner to its end. `say` is told what is happening; `tick` is called before each step, and may raise.

    `attachment` holds the learner's live adapters. One that does not write leaves progress to another process.
    """

    def __init__(
        self,
        learner: ConceptLearner,
        settings: LearningSettings,
        attachment: Attachment,
        progress: ProgressFile,
        say: Callable[[str], None],
        tick: Callable[[], None] = lambda: None,
        writes: bool = True,
    ) -> None:
        self._learner, self._settings, self._attachment = learner, settings, attachment
        self._progress, self._say, self._tick, self._writes = progress, say, tick, writes

    def take_up(self, name: str) -> None:
        """Go on where this job was left, if it was, and say so."""
        progress, rate = self._progress, self._settings.lr
        if progress.restore(self._learner):
            before = progress.rates[-1][1] if progress.rates else rate
            other = f", with learning rate {rate:g} instead of {before:g}" if rate != before else ""
            self._say(f"Going on with <{name}> from step {self._learner.done}{other}")
        elif progress.problem:
            self._say(progress.problem)
        if not progress.rates or progress.rates[-1][1] != rate:
            progress.rates.append((self._learner.done, rate))

    def run(self, on_step: Callable[[StepReport], None] = lambda report: None) -> None:
        """Every step that is left; progress is saved now and then, and a save that fails does not stop the lesson."""
        learner, total, saved = self._learner, self._settings.steps, time.monotonic()
        losses = self._progress.losses
        with self._attachment, learner.backbone.checkpointing():
            learner.prepare(self._attachment, self._say, self._tick)
            clock = Clock(learner.done, total)
            while learner.done < total:
                self._tick()
                report = learner.step(self._attachment)
                losses.append(report.loss)
                if report.step % 5 == 0 or report.step == 1:
                    left = minutes(clock.left(report.step))
                    kept = f"  class {report.class_loss:.4f}" if self._settings.class_weight else ""
                    self._say(f"step {report.step}/{total}  loss {mean(losses[-20:]):.4f}{kept}  {left} left")
                on_step(report)
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.keep()
                    saved = time.monotonic()

    def keep(self) -> bool:
        """Save progress if there is any. A failure is said and nothing more: it never hides what stopped the lesson."""
        if not (self._learner.done and self._writes):
            return False
        try:
            self._progress.save(self._learner)
        except Exception as error:
            logging.warning("CCVD: progress could not be saved to %s: %s", self._progress.path, error)
            self._say(f"Progress could not be saved to {self._progress.path} ({error})")
            return False
        return True


def mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def thinned(losses: Sequence[float]) -> list[float]:
    """A curve of at most `CURVE_POINTS`: means of equal stretches."""
    count = min(CURVE_POINTS, len(losses))
    edges = [round(index * len(losses) / count) for index in range(count + 1)] if count else []
    return [round(sum(losses[a:b]) / (b - a), 6) for a, b in itertools.pairwise(edges)]
