"""The rows of the table: ways to draw a scene whose regions name concepts. All start from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from bases import Base
from layouts import Case
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import Concept
from ccvd_core.number_types import fast_autocast
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.masks import latent_masks
from ccvd_core.regions.modes import RegionSettings
from ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt, predict_prompts
from ccvd_core.regions.scene import Reading, aggregate_scene
from ccvd_core.sampling import sample

STEPS, CFG, BATCH = 20, 4.0, 10
CONTRAST = RegionSettings("attention", contrast_steps=0.4)


@dataclass(frozen=True)
class Studio:
    """The model with its learned concepts."""

    base: Base
    backbone: Backbone
    concepts: tuple[Concept, ...]

    @property
    def negative(self) -> ConceptPrompt:
        prompt = aggregate(self.backbone, "", self.concepts).prompt
        return replace(prompt, weights=torch.zeros_like(prompt.weights))

    def scene(self, case: Case, shared_adapters: bool = False, reading: Reading = "alone") -> RegionalPrompt:
        """The case as a scene whose whole prompt says what is outside the regions.

        `shared_adapters`: every concept acts in every region, as without gating.
        """
        regions = case.clauses if reading == "together" else case.regions
        scene = aggregate_scene(self.backbone, case.surroundings, regions, self.concepts, reading=reading).prompt
        if not shared_adapters:
            return scene
        weights = torch.stack([prompt.weights for prompt in scene.prompts]).amax(0)
        return replace(scene, prompts=tuple(replace(prompt, weights=weights) for prompt in scene.prompts))


Drawer = Callable[[Studio, Attachment, Sequence[Case], Tensor], Tensor]
"""(studio, attached concepts, cases, noise) -> latents."""


def regional(settings: RegionSettings, shared_adapters: bool = False, reading: Reading = "alone") -> Drawer:
    """This pack's region sampling."""

    def draw(studio: Studio, attachment: Attachment, cases: Sequence[Case], noise: Tensor) -> Tensor:
        scenes = [studio.scene(case, shared_adapters, reading) for case in cases]
        return sample(studio.backbone, attachment, scenes, studio.negative, noise, STEPS, CFG, regions=settings)

    return draw


def balanced(share: float) -> Drawer:
    """Region attention over prompts read together, whose words are moved by a share towards what they are when each
    prompt is read alone: the balance of drowned subjects of Comp-Attn (arXiv 2503.14428), without its search."""

    def draw(studio: Studio, attachment: Attachment, cases: Sequence[Case], noise: Tensor) -> Tensor:
        scenes = []
        for case in cases:
            together = studio.scene(case, reading="together")
            clauses = [aggregate(studio.backbone, r.prompt, studio.concepts).prompt for r in case.clauses.regions]
            prompts = [together.prompts[0]]
            for number, (prompt, alone) in enumerate(zip(together.prompts[1:], clauses, strict=True)):
                context, words = prompt.context.clone(), int(alone.context.any(1).sum()) - 1
                # Before a region's own words stand the words that join those of the regions before it.
                own = slice(number, number + words)
                context[own] = torch.lerp(context[own], alone.context[:words], share)
                prompts.append(replace(prompt, context=context))
            scenes.append(replace(together, prompts=tuple(prompts)))
        return sample(studio.backbone, attachment, scenes, studio.negative, noise, STEPS, CFG, regions=CONTRAST)

    return draw


def prompt_only(studio: Studio, attachment: Attachment, cases: Sequence[Case], noise: Tensor) -> Tensor:
    """All concepts named in one prompt, no regions."""
    prompts = [aggregate(studio.backbone, case.prompt, studio.concepts).prompt for case in cases]
    return sample(studio.backbone, attachment, prompts, studio.negative, noise, STEPS, CFG)


def stock_masked(studio: Studio, attachment: Attachment, cases: Sequence[Case], noise: Tensor) -> Tensor:
    """ComfyUI's masked conditioning with the same adapters."""
    scenes = [studio.scene(case) for case in cases]
    return masked_latents(studio.backbone, attachment, scenes, studio.negative, noise, STEPS, CFG)


@torch.no_grad()
def masked_latents(
    backbone: Backbone,
    attachment: Attachment,
    scenes: Sequence[RegionalPrompt],
    negative: ConceptPrompt,
    noise: Tensor,
    steps: int,
    cfg: float,
) -> Tensor:
    """One prediction per region and step, averaged by masks, as `comfy.samplers.calc_cond_batch` does it.

    sum(mask * prediction) / sum(mask). The prompt of the surroundings is masked to what the regions leave, which is
    kinder to this row than letting it act everywhere. All scenes have as many regions.
    """

    def predict(prompts: Sequence[AnyPrompt], latents: Tensor, t: Tensor) -> Tensor:
        with attachment.activate(prompts, latents.device):
            return predict_prompts(backbone, latents, t.expand(len(latents)), prompts).to(latents)

    grid, latents = backbone.grid(noise.shape[1:]), noise
    masks = torch.stack([latent_masks(scene.regions, noise.shape, grid) for scene in scenes])
    for t, next_t in pairwise(backbone.noise_path.times(steps).to(noise)):
        base = predict([negative] * len(scenes), latents, t)
        positive = torch.zeros_like(latents)
        for part in range(len(scenes[0].prompts)):
            positive += masks[:, part, None].to(base) * predict([scene.prompts[part] for scene in scenes], latents, t)
        latents = latents + (next_t - t) * (base + cfg * (positive - base))
    return latents


METHODS: dict[str, Drawer] = {
    "prompt_only": prompt_only,
    "stock_masked": stock_masked,
    "attention": regional(RegionSettings("attention")),
    "attention_shared_adapters": regional(RegionSettings("attention"), shared_adapters=True),
    "attention_together": regional(RegionSettings("attention"), reading="together"),
    "attention_together_contrast": regional(CONTRAST, reading="together"),
    "attention_balanced": balanced(0.5),
    "one_at_a_time_contrast": regional(RegionSettings("one at a time", contrast_steps=0.4)),
    "one_at_a_time_every_2": regional(RegionSettings("one at a time", contrast_steps=0.4, region_every=2)),
    "one_at_a_time_every_3": regional(RegionSettings("one at a time", contrast_steps=0.4, region_every=3)),
    "paper": regional(RegionSettings("paper", region_steps=0.3)),
    "paper_bootstrap": regional(RegionSettings("paper + bootstrap", region_steps=0.3)),
}


def draw(studio: Studio, method: str, cases: Sequence[Case], seed: int) -> Tensor:
    """Clips [n, frames, height, width, 3]; clip i starts from the same noise in every method."""
    noise = studio.base.noise(range(seed, seed + len(cases)))
    parts = []
    adapters = [concept.adapters for concept in studio.concepts]
    with Attachment(studio.backbone, adapters) as attachment, fast_autocast():
        for start in range(0, len(cases), BATCH):
            chosen = slice(start, start + BATCH)
            parts.append(METHODS[method](studio, attachment, cases[chosen], noise[chosen]))
        return studio.base.to_clips(torch.cat(parts))
