"""Drawing clips of concept prompts, and what a clip shows: shared by the benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from bases import Base
from lessons import LessonPlan
from scene_parts import PARTS
from torch import Tensor
from world.judge import score
from world.scenes import Scene

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.concepts.concept import LowRank
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.sampling import sample

STEPS, CFG = 20, 3.0
BATCH = 12
"""Clips sampled at a time."""


@torch.no_grad()
def draw_prompts(
    base: Base,
    adapters: Sequence[Mapping[str, LowRank]],
    prompts: Sequence[ConceptPrompt],
    negative: ConceptPrompt,
    seeds: Sequence[int],
) -> Tensor:
    """Clips [n, frames, height, width, 3] in 0..1, sampled in `fast_dtype`; a seed decides a clip's noise.

    `adapters` are those of the prompts' concepts, in their order.
    """
    backbone, noise = base.backbone, base.noise(seeds)
    parts = []
    with Attachment(backbone, adapters) as attachment, fast_autocast():
        for start in range(0, len(prompts), BATCH):
            chosen = slice(start, start + BATCH)
            parts.append(sample(backbone, attachment, prompts[chosen], negative, noise[chosen], STEPS, CFG))
        return base.to_clips(torch.cat(parts))


def shows(plan: LessonPlan, clip: Tensor, scene: Scene) -> tuple[bool, bool]:
    """(the concept is seen, everything else in the caption holds)."""
    return PARTS[plan.kind].judged(score(clip, scene))
