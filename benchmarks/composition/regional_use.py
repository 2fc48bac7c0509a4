"""Ways of drawing scenes whose objects have regions, with a set of learned concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from bases import Base
from library_use import CCVD, PAPER, PLAIN, Method
from methods import masked_latents
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.concepts.concept import Concept
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.region import RegionSet
from ccvd_core.regions.regional_prompt import RegionalPrompt
from ccvd_core.regions.scene import aggregate_scene
from ccvd_core.sampling import sample

STEPS, CFG, BATCH = 20, 4.0, 10


@dataclass(frozen=True)
class RegionUse:
    """How concepts act (`method`), and how regions are sampled: by a mode, or (None) by masked conditioning."""

    method: Method
    mode: RegionSettings | None = field(default_factory=RegionSettings)


CONTRASTED = RegionUse(CCVD, RegionSettings("one at a time", contrast_steps=0.4))
MERGED = RegionUse(PAPER, RegionSettings("paper", region_steps=0.3))
MASKED = RegionUse(PLAIN, None)


def scene_of(base: Base, use: RegionUse, concepts: Sequence[Concept], text: str, regions: RegionSet) -> RegionalPrompt:
    """The prompts of a scene as the method reads them."""
    method = use.method
    scene = aggregate_scene(
        base.backbone, text, regions, concepts, method.settings, own_rows_only=method.own_rows_only
    ).prompt
    if not method.always_on:
        return scene
    return replace(scene, prompts=tuple(map(always_on, scene.prompts)))


def always_on(prompt: ConceptPrompt) -> ConceptPrompt:
    """The prompt with every concept at full weight on every word."""
    return replace(prompt, weights=torch.ones_like(prompt.weights), gates=torch.ones_like(prompt.gates))


@torch.no_grad()
def draw_regions(
    base: Base,
    use: RegionUse,
    concepts: Sequence[Concept],
    texts: Sequence[str],
    regions: Sequence[RegionSet],
    seeds: Sequence[int],
) -> Tensor:
    """Clips [n, frames, height, width, 3] in 0..1; `texts` say what is around the regions, a seed is a clip's noise."""
    scenes = [scene_of(base, use, concepts, text, drawn) for text, drawn in zip(texts, regions, strict=True)]
    negative = use.method.prompt(base.backbone, "", concepts)
    if not use.method.always_on:
        negative = replace(negative, weights=torch.zeros_like(negative.weights))
    noise, parts = base.noise(seeds), []
    with Attachment(base.backbone, [concept.adapters for concept in concepts]) as attachment, fast_autocast():
        for start in range(0, len(scenes), BATCH):
            some, own = scenes[start : start + BATCH], noise[start : start + BATCH]
            if use.mode is None:
                parts.append(masked_latents(base.backbone, attachment, some, negative, own, STEPS, CFG))
            else:
                parts.append(sample(base.backbone, attachment, some, negative, own, STEPS, CFG, regions=use.mode))
        return base.to_clips(torch.cat(parts))
