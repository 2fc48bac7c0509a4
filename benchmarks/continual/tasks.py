"""The held-out tasks in their fixed order, and how each kind of method writes their captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from bases import Base
from lessons import LessonPlan, motion, style, subject
from text import FURTHER_WORDS
from world.motions import HELD_OUT_MOTIONS
from world.scenes import Choices

TABLE_SEED, TUNING_SEED = 471_000, 417_000
"""Scenes and noise of the published table, and of the captions on which settings are chosen."""


TASKS = (
    subject("rex", "fox"),
    motion("hop", "hopping"),
    subject("hoops", "basketball"),
    style("noir", "noir"),
    subject("fang", "wolf"),
    motion("slide", "diagonal"),
    subject("cab", "taxi"),
    style("print", "blueprint"),
    subject("peel", "orange"),
    motion("weave", "zigzag"),
    subject("bandit", "raccoon"),
    style("invert", "negative"),
    subject("stripe", "tiger"),
    motion("sway", "swinging"),
    subject("siren", "police"),
    style("lilac", "lavender"),
    subject("crow", "rooster"),
    motion("throb", "pulsing"),
    subject("rosy", "flamingo"),
    style("panel", "comic"),
    subject("spot", "leopard"),
    subject("topper", "tophat"),
)
"""In learning order. Kinds alternate, but for the last two, and five tasks or more lie between look-alikes."""

PAIRS = (("fang", "bandit"), ("hoops", "peel"), ("stripe", "spot"), ("cab", "siren"))
LOOK_ALIKES: dict[str, str] = {**dict(PAIRS), **{other: one for one, other in PAIRS}}
"""Name of a concept -> name of the one that looks like it: wolf and raccoon, basketball and orange, tiger and leopard,
taxi and police car."""

UNUSED_WORDS = (
    *(word for word in FURTHER_WORDS if word not in HELD_OUT_MOTIONS),
    *"bcdefghijklmnopqrstuvwxyz0123456789",
)
"""In the base's vocabulary, or letters that its tokenizer falls back to, and in no caption that it was trained on."""


def tasks_for(known: Choices) -> list[LessonPlan]:
    """The tasks whose class words a base of these choices knows, in order."""
    return [task for task in TASKS if task.fits(known)]


def class_caption(task: LessonPlan, caption: str) -> str:
    """The caption with the class words in place of `<name>`: all that the base alone can read."""
    return caption.replace(f"<{task.name}>", task.class_words)


def identified_caption(base: Base, task: LessonPlan, caption: str) -> str:
    """The caption as methods without concept tokens write it: an unused word before the class words (DreamBooth)."""
    word = identifiers(base)[TASKS.index(task)]
    return caption.replace(f"<{task.name}>", f"{word} {task.class_words}")


@cache
def identifiers(base: Base) -> tuple[str, ...]:
    """One unused word per task: those that this base's text encoder tells apart best.

    Only words that the tokenizer keeps as one piece. The first is the least like the others; each next one is the word
    whose largest cosine to those already chosen is smallest.
    """
    rows: dict[str, torch.Tensor] = {}
    for word in UNUSED_WORDS:
        encoded = base.backbone.encode(f"a {word} dog")
        if len(encoded.pieces) == 3:
            rows[word] = F.normalize(encoded.context[1], dim=-1)
    return farthest(rows, len(TASKS))


def farthest(rows: dict[str, torch.Tensor], count: int) -> tuple[str, ...]:
    """`count` names whose unit vectors lie far apart, by greedy choice."""
    names: Sequence[str] = list(rows)
    vectors = torch.stack(list(rows.values()))
    likeness = vectors @ vectors.T
    chosen = [int(likeness.sum(1).argmin())]
    while len(chosen) < count:
        nearest = likeness[:, chosen].amax(1)
        nearest[chosen] = torch.inf
        chosen.append(int(nearest.argmin()))
    return tuple(names[index] for index in chosen)
