"""A plain Euler sampler over any backbone: previews while learning, headless use, benchmarks. Graphs use ComfyUI's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from .attaching.attachment import Attachment
from .backbones.base import Backbone
from .prompts.concept_prompt import ConceptPrompt
from .regions.masks import latent_masks
from .regions.merging import RegionSettings, bootstrap_input, merge_noise, noisy_surroundings, plain_colour
from .regions.regional_prompt import AnyPrompt, RegionalPrompt, has_regions, predict_prompts, rows_of_one_length
from .regions.steps import region_schedule


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
    path = backbone.noise_path
    times = path.times(steps).to(noise)
    latents = path.start(noise, times[0])
    # As much noise as the latents hold: the first step sees no more of a colour than they do.
    held = latents / times[0]
    guided = cfg != 1.0
    settings = regions or RegionSettings()
    if regions is not None:
        prompts = blended(prompts, regions.blend)
    regional = any(map(has_regions, prompts))
    negatives = [negative] * len(prompts)
    empties = [empty_scene(prompt, negative) for prompt in prompts]
    scenes = {row: prompt for row, prompt in enumerate(prompts) if isinstance(prompt, RegionalPrompt)}
    made = {id(scene): own_prompts(scene, settings) for scene in scenes.values()}
    own = {row: made[id(scene)] for row, scene in scenes.items()}
    empty, first = None, latents
    schedule = region_schedule(settings, lambda share: path.sampling_level(1 - share))
    for t, next_t in pairwise(times):
        parts = schedule.step(float(t))
        on_step()
        batch = torch.cat([latents, latents]) if guided else latents
        merging = regional and parts.merged
        contrasted = guided and parts.contrasted
        rows = [*prompts, *(empties if contrasted else negatives)] if guided else prompts
        predictions, masses = predict_rows(backbone, attachment, rows, batch, t, merging and settings.measures)
        positive, base = predictions.chunk(2) if guided else (predictions, predictions)
        if merging:
            hidden = None
            if settings.mode == "one at a time":
                if empty is None:
                    # Of what is there and what to guide away from, `base` is one already.
                    some, others = list(scenes), negatives if contrasted else empties
                    other = predict(backbone, attachment, [others[row] for row in some], latents[some], t)
                    there, away = (base[some], other) if contrasted else (other, base[some])
                    empty = latents.clone()
                    empty[some] = path.clean(latents[some], away + cfg * (there - away), t)
                    first = latents
                hidden = noisy_surroundings(empty, first, t / times[0])
            elif parts.bootstrapped:
                hidden = path.mix(plain_colour(noise, colour), held, t)
            positive = merged(backbone, attachment, scenes, own, latents, t, positive, masses, settings, hidden)
        latents = path.step(latents, base + cfg * (positive - base) if guided else positive, t, next_t)
    return latents


def empty_scene(prompt: AnyPrompt, negative: ConceptPrompt) -> ConceptPrompt:
    """The negative prompt of the first steps: a scene without its regions; `negative` where there are none."""
    return prompt.prompts[0] if has_regions(prompt) else negative


def blended(prompts: Sequence[AnyPrompt], blend: float) -> list[AnyPrompt]:
    """The prompts with this blend; rows that share a prompt go on sharing it."""
    changed = {id(p): replace(p, blend=blend) if isinstance(p, RegionalPrompt) else p for p in prompts}
    return [changed[id(prompt)] for prompt in prompts]


def own_prompts(scene: RegionalPrompt, settings: RegionSettings) -> tuple[AnyPrompt, ...]:
    """What each region's own prediction is made with, where predictions are merged (see `RegionSettings.mode`)."""
    if settings.mode != "one at a time":
        return scene.prompts[1:]
    return tuple(scene.only(region) for region in range(1, len(scene.prompts)))


def predict(
    backbone: Backbone,
    attachment: Attachment,
    prompts: Sequence[AnyPrompt],
    latents: Float[Tensor, "batch channels frames height width"],
    t: Float[Tensor, ""],
) -> Float[Tensor, "batch channels frames height width"]:
    """The prediction for one prompt per batch row."""
    return predict_rows(backbone, attachment, prompts, latents, t)[0]


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


def merged(
    backbone: Backbone,
    attachment: Attachment,
    scenes: Mapping[int, RegionalPrompt],
    own: Mapping[int, Sequence[AnyPrompt]],
    latents: Float[Tensor, "batch channels frames height width"],
    t: Float[Tensor, ""],
    whole: Float[Tensor, "batch channels frames height width"],
    masses: Sequence[Float[Tensor, " regions"] | None],
    settings: RegionSettings,
    hidden: Float[Tensor, "batch channels frames height width"] | None,
) -> Float[Tensor, "batch channels frames height width"]:
    """Attention-guided noise estimation: predict every region on its own and merge (see `noise_merge`).

    `scenes` and the `own` prompts of their regions are given by batch row, `whole` is the prediction for the scenes,
    `masses` what the regions' concepts got in it (where that counts), `hidden` what a region's own prediction sees
    outside it (None: the latents as they are). Calls are no larger than with guidance.
    """
    grid = backbone.grid(latents.shape[1:])
    masks = {row: latent_masks(scene.regions, latents.shape, grid, scene.blend)[1:] for row, scene in scenes.items()}
    wanted = [(row, region) for row, prompts in own.items() for region in range(len(prompts))]
    found: dict[tuple[int, int], Tensor] = {}
    size = 2 * len(latents)
    for some in (wanted[start : start + size] for start in range(0, len(wanted), size)):
        batch = torch.stack([latents[row] for row, _ in some])
        if hidden is not None:
            batch = torch.stack([bootstrap_input(latents[r], hidden[r], masks[r][k]) for r, k in some])
        regions = [own[row][region] for row, region in some]
        predictions = predict(backbone, attachment, regions, batch, t).to(whole)
        found.update(zip(some, predictions, strict=True))
    result = whole.clone()
    for row, prompts in own.items():
        if prompts:
            mass = masses[row]
            strengths = settings.strengths(torch.full((len(prompts),), torch.nan) if mass is None else mass)
            parts = torch.stack([found[row, region] for region in range(len(prompts))])
            result[row] = merge_noise(whole[row], parts, masks[row], strengths)
    return result
