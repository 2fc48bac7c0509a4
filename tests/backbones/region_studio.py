"""A scene of two regions on the demo model, sampled by ComfyUI's own samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from base import DemoBase, load_base
from torch import Tensor

from ccvd_core.concepts.adjustments import NoiseRange
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.region import RegionSet
from ccvd_core.regions.scene import aggregate_scene
from tests.backbones.demo_scenes import MOVING, STILL, in_comfyui, load_model, random_concepts, theirs
from tests.backbones.pack import from_pack

SHAPE = (1, 16, 2, 6, 8)
STEPS, REGIONS = 10, 2
MODES = [
    RegionSettings(contrast_steps=0.7),
    RegionSettings("paper", region_steps=0.7, contrast_steps=0.3),
    RegionSettings("paper + bootstrap", region_steps=0.8, bootstrap_steps=0.7),
    RegionSettings("one at a time", region_steps=0.8, contrast_steps=0.3),
]


def label(settings: RegionSettings) -> str:
    return settings.mode


class Studio:
    """A scene of two regions, and the demo model twice, as two experts are two models."""

    def __init__(self) -> None:
        base: DemoBase = load_base()
        self.models = [load_model(), load_model()]
        self.concepts = random_concepts(base)
        regions = RegionSet(64, 48, (MOVING, STILL))
        self.scene = aggregate_scene(base.backbone(), "a star on green grass", regions, self.concepts).prompt
        self.negative = aggregate(base.backbone(), "", self.concepts).prompt
        self.noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))

    def patched(self, settings: RegionSettings, number: int = 0) -> Any:
        patching = from_pack("nodes.host.patching")
        model = patching.with_region_settings(self.models[number], theirs(settings))
        return patching.with_concepts(model, [theirs(concept) for concept in self.concepts])

    def sample(self, model: Any, scene: Any = None, **changes: Any) -> Tensor:
        usual = {"steps": STEPS, "noise": self.noise}
        return in_comfyui(model, scene or self.scene, self.negative, **{**usual, **changes})

    def limited(self, settings: RegionSettings, ranges: Mapping[str, NoiseRange]) -> Tensor:
        """Sampled with concepts that act at some noise only."""
        return self.sample(self.patched(settings), ranges=ranges)

    def split(self, models: list[Any], *cuts: int, **changes: Any) -> Tensor:
        """KSampler (Advanced) for each model: the first adds noise, all but the last leave some."""
        bounds, noise, latents = [0, *cuts, STEPS], self.noise, torch.zeros_like(self.noise)
        for model, start, end in zip(models, bounds[:-1], bounds[1:], strict=True):
            latents = self.sample(model, noise=noise, latents=latents, start_step=start, last_step=end, **changes)
            noise = torch.zeros_like(noise)
        return latents
