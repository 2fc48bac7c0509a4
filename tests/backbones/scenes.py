"""Scenes over the tiny Wan, for the tests of regions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import LowRank
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.region import Keyframe, Region, RegionSet
from ccvd_core.regions.regional_prompt import RegionalPrompt


def region(*sides: float, to: tuple[float, float, float, float] | None = None) -> Region:
    frames = [Keyframe(0.0, sides)] + ([Keyframe(1.0, to)] if to else [])  # type: ignore[arg-type]
    return Region("", "a dog", "#ffffff", 1.0, tuple(frames))


def scene(prompts: list[ConceptPrompt], *regions: Region, blend: float = 0.0) -> RegionalPrompt:
    return RegionalPrompt(tuple(prompts), RegionSet(64, 64, regions), blend)


LEFT, RIGHT, ALL = region(0, 0, 0.34, 1), region(0.67, 0, 0.33, 1), region(0, 0, 1, 1)


def adapters(backbone: Backbone, seed: int, role: str | None = None) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)
    return {
        site.id: LowRank(
            torch.randn(2, site.in_features, generator=generator) / site.in_features**0.5,
            torch.randn(site.out_features, 2, generator=generator) * 0.3,
        )
        for site in backbone.sites
        if role in (None, site.role)
    }


@contextmanager
def two_concepts(backbone: Backbone) -> Iterator[Attachment]:
    with torch.no_grad(), Attachment(backbone, [adapters(backbone, 1), adapters(backbone, 2)]) as attachment:
        yield attachment
