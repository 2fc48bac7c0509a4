"""A plain Euler sampler over any backbone: previews while learning, headless use, benchmarks. Graphs use ComfyUI's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from .attaching.attachment import Attachment
from .backbones.base import Backbone
from .prompts.concept_prompt import ConceptPrompt
from .regions.merging import guided
from .regions.modes import RegionSettings, region_schedule
from .regions.regional_prompt import AnyPrompt, RegionalPrompt, has_regions, predict_prompts, rows_of_one_length
from .regions.row_merging import RowMerging


@torch.no_grad()
def sample(
    backbone: Backbone,
    attachment: Attachment,
    prompts: Sequence[AnyPrompt],
    negative: ConceptPrompt,
    noise: Float[Tensor, "batch channels frames height width"],
    steps: int = 20,
    cfg: float = 3.0,
    on_step: Callable[[], None] = lambda: None,
    regions: RegionSettings | None = None,
    colour: Float[Tensor, " channels"] | None = None,
) -> Float[Tensor, "batch channels frames height width"]:
    """Latents for one prompt per batch row; `negative` is shared. `on_step` may raise to stop.

    `regions` says how prompts with regions are sampled, blend included; None: region attention alone, with the
    prompts' own blend. `colour` is what the bootstrap shows around a region, in latent space; None: 0.
    """
    path, settings, guides = backbone.noise_path, regions or RegionSettings(), cfg != 1.0
    if regions is not None:
        prompts = blended(prompts, regions.blend)
    negatives = [negative] * len(prompts)
    empties = [prompt.empty if has_regions(prompt) else negative for prompt in prompts]
    predict = partial(predict_rows, backbone, attachment)
    schedule = region_schedule(settings, lambda share: path.sampling_level(1 - share))
    times = path.times(steps).to(noise)
    latents = path.start(noise, times[0])
    # As much noise as the latents hold: the first step sees no more of a colour than they do.
    held = latents / times[0]
    merging = RowMerging(predict, path, backbone.grid(noise.shape[1:]), prompts, settings, held, colour)
    for t, next_t in pairwise(times):
        plan = schedule.plan(float(t))
        on_step()
        contrast = guides and plan.contrast
        rows = [*prompts, *(empties if contrast else negatives)] if guides else prompts
        batch = torch.cat([latents, latents]) if guides else latents
        found, masses = predict(rows, batch, t, merging.measures(plan))
        positive, away = found.chunk(2) if guides else (found, found)
        if plan.merge:
            if new := merging.lacking(plan, t):
                # Of the scenes without their regions, and what to guide them away from, `away` is one already.
                other, _ = predict([(negatives if contrast else empties)[row] for row in new], latents[new], t)
                there, base = (away[new], other) if contrast else (other, away[new])
                merging.remember(new, latents, path.clean(latents[new], guided(there, base, cfg), t), t)
            positive = merging.merged(plan, latents, t, positive, masses)
        latents = path.step(latents, guided(positive, away, cfg) if guides else positive, t, next_t)
    return latents


def blended(prompts: Sequence[AnyPrompt], blend: float) -> list[AnyPrompt]:
    """The prompts with this blend; rows that share a prompt go on sharing it."""
    changed = {id(p): replace(p, blend=blend) if isinstance(p, RegionalPrompt) else p for p in prompts}
    return [changed[id(prompt)] for prompt in prompts]


def predict_rows(
    backbone: Backbone,
    attachment: Attachment,
    prompts: Sequence[AnyPrompt],
    latents: Float[Tensor, "batch channels frames height width"],
    t: Float[Tensor, ""],
    measure: bool = False,
) -> tuple[Float[Tensor, "batch channels frames height width"], list[Float[Tensor, " regions"] | None]]:
    """The prediction for one prompt per batch row and, when `measure`d, each row's attention masses (else None).

    Prompts of several lengths are several model calls: each row's result is the same as alone.
    """
    predictions = torch.empty_like(latents)
    masses: list[Tensor | None] = [None] * len(prompts)
    grid = backbone.grid(latents.shape[1:])
    for rows in rows_of_one_length(prompts):
        some = [prompts[row] for row in rows]
        with attachment.activate(some, latents.device, grid=grid, measure=measure):
            predictions[rows] = predict_prompts(backbone, latents[rows], t.expand(len(rows)), some).to(latents)
            if measure and any(map(has_regions, some)):
                for row, mass in zip(rows, attachment.attention_masses(), strict=True):
                    masses[row] = mass
    return predictions, masses
