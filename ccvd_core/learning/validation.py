"""Which step of a lesson is kept: the last, or the best by a validation loss.

The training loss of a step says little: its noise decides most of it. The validation loss is the same loss on the same
few examples, with the same noise at the same levels every time. It costs one forward pass per example and level, at
most `MOST_EXAMPLES` x `LEVELS` of them, which is as much as four steps, every `validate_every` steps.

Of a lesson of `HELD_OUT_FROM` pictures or clips and more, one in ten is held out for it: nothing is learned from those,
so that the loss rises where the lesson learns its own pictures by heart. In smaller lessons no picture can be spared,
and it is taken on their own: it then finds where a lesson became unstable rather than where it learned too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.kinds import Kind
from ..prompts.concept_prompt import ConceptPrompt
from ..sheet import spread
from .batch_loss import batch_loss
from .example import Example, ReadExample
from .step import SEED_STRIDE, STREAM_STRIDE, LearningSettings, StepDraw, training_times
from .trained import Learned

MOST_EXAMPLES, LEVELS = 4, 4
HELD_OUT_FROM = 10
"""Pictures or clips. One in so many is held out."""
VALIDATION_STREAM = 3
"""Of chance: no step sees the validation's noise."""
KEPT_STEP, VALIDATION_LOSS, HELD_OUT = "kept_step", "validation_loss", "held_out"
"""What a concept's file says of it, among its settings."""

PromptOf = Callable[[ReadExample, Tensor], ConceptPrompt]
"""An example's prompt with these tokens of the concept."""


def held_out(items: Sequence[int]) -> set[int]:
    """The pictures or clips that are left out of learning: of each ten the last, so never the first; none of few."""
    known = list(dict.fromkeys(items))
    count = len(known) // HELD_OUT_FROM
    return {known[(number + 1) * len(known) // count - 1] for number in range(count)}


def split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """(what is learned from, what is held out). All examples of one picture or clip stay together."""
    items = [example.item if example.item is not None else -1 - number for number, example in enumerate(examples)]
    out = held_out(items)
    return (
        [example for item, example in zip(items, examples, strict=True) if item not in out],
        [example for item, example in zip(items, examples, strict=True) if item in out],
    )


class Validation:
    """The validation loss of one lesson, and the values with the smallest so far."""

    def __init__(
        self,
        learned_from: Sequence[ReadExample],
        out: Sequence[ReadExample],
        kind: Kind,
        settings: LearningSettings,
        values: Sequence[Tensor],
    ) -> None:
        """`values` are those of `Trained.current`; the best are kept on the CPU."""
        self._kind: Kind = kind
        self._settings, self._held_out = settings, len(out)
        examples = out or learned_from
        self.examples = [examples[number] for number in spread(len(examples), MOST_EXAMPLES)]
        middles = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        self.times = training_times(torch.special.ndtri(middles), settings)
        self._loss = torch.tensor(math.inf, dtype=torch.float64)
        self._step = torch.tensor(0)
        self._best = [value.detach().cpu().clone() for value in values]

    @property
    def passes(self) -> int:
        """Forward passes each time."""
        return len(self.examples) * len(self.times)

    def tensors(self) -> dict[str, Tensor]:
        """What is known so far, as a part of the lesson's state: what is copied into these is taken up."""
        kept = {f"best.{number}": value for number, value in enumerate(self._best)}
        return {"best.loss": self._loss, "best.step": self._step, **kept}

    def due(self, done: int) -> bool:
        """Whether it is time for it after so many steps; the last always is."""
        return done % self._settings.validate_every == 0 or done == self._settings.steps

    def look(
        self,
        backbone: Backbone,
        attachment: Attachment,
        learned: Learned,
        values: Sequence[Tensor],
        prompt_of: PromptOf,
        done: int,
    ) -> None:
        """Keep these values if no earlier ones were better."""
        loss = self.loss(backbone, attachment, learned, prompt_of)
        if float(loss) < float(self._loss):
            self._loss.copy_(loss)
            self._step.fill_(done)
            for best, value in zip(self._best, values, strict=True):
                best.copy_(value.detach())

    @torch.no_grad()
    def loss(
        self, backbone: Backbone, attachment: Attachment, learned: Learned, prompt_of: PromptOf
    ) -> Float[Tensor, ""]:
        """The mean over the fixed examples and levels of noise."""
        losses = []
        for number, example in enumerate(self.examples):
            prompt = prompt_of(example, learned.tokens)
            seed = self._settings.seed * SEED_STRIDE + VALIDATION_STREAM * STREAM_STRIDE + number
            generator = torch.Generator().manual_seed(seed)
            for time in self.times:
                noise = torch.randn(1, *example.latents.shape, generator=generator)
                drawn = StepDraw((0,), noise, time[None], (False,))
                losses.append(
                    batch_loss(backbone, attachment, learned, [example], [prompt], drawn, self._kind, self._settings)
                )
        return torch.stack(losses).double().mean()

    def best(self) -> list[Tensor] | None:
        """The best values; None before the first look."""
        return self._best if int(self._step) else None

    def told(self) -> dict[str, Any]:
        """For the concept's file: the step that is kept, its loss, and how many examples were held out."""
        if not int(self._step):
            return {}
        return {KEPT_STEP: int(self._step), VALIDATION_LOSS: float(self._loss), HELD_OUT: self._held_out}


def kept_note(settings: Mapping[str, Any]) -> str:
    """Which step a learned concept is of, for its report; empty where it is the last without a choice."""
    if KEPT_STEP not in settings:
        return ""
    where = f"{settings[HELD_OUT]} held-out examples" if settings[HELD_OUT] else "its own examples"
    return f"Kept step {settings[KEPT_STEP]}, the best: validation loss {settings[VALIDATION_LOSS]:.4f} on {where}."
