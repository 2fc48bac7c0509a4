"""A plain Euler sampler over any backbone: previews while learning, headless use, benchmarks. Graphs use ComfyUI's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from .attaching.attachment import Attachment
from .backbones.base import Backbone
from .backbones.noise_path import NoisePath
from .errors import CCVDError
from .prompts.concept_prompt import ConceptPrompt
from .regions.merging import guided
from .regions.modes import RegionSettings, region_schedule
from .regions.noise_limits import NoiseLimits
from .regions.regional_prompt import AnyPrompt, RegionalPrompt, has_regions, predict_prompts, rows_of_one_length
from .regions.row_merging import RowMerging


@dataclass(frozen=True)
class Source:
    """A clip to change, in place of pure noise to begin with.

    Of the steps, those of the last `denoise` (0..1) of the noise levels are made, as ComfyUI's KSampler does it. Where
    `mask` (1 where it may change; one row for all clips, or one for each) is 0 the clip stays; None: all may change.
    """

    latents: Float[Tensor, "batch channels frames height width"]
    denoise: float = 1.0
    mask: Float[Tensor, "rows 1 *size"] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.denoise <= 1:
            raise CCVDError(f"Denoise must be above 0 and at most 1; got {self.denoise:g}.")
        if self.mask is not None and self.mask.shape[2:] != self.latents.shape[2:]:
            raise CCVDError(
                f"A mask over latents of {list(self.latents.shape[2:])} must have that size; "
                f"got {list(self.mask.shape[2:])}."
            )

    def levels(self, path: NoisePath, steps: int) -> Float[Tensor, " steps_plus_one"]:
        """Noise levels of `steps` steps, the first of them where the clip's own noise begins."""
        return path.times(int(steps / self.denoise))[-(steps + 1) :]

    def kept(self, changed: Tensor, path: NoisePath, noise: Tensor, level: Tensor) -> Tensor:
        """Latents at a level with the clip itself, under its noise, where it stays."""
        if self.mask is None:
            return changed
        return torch.lerp(path.mix(self.latents, noise, level).to(changed), changed, self.mask.to(changed))


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
    source: Source | None = None,
    limits: NoiseLimits | None = None,
) -> Float[Tensor, "batch channels frames height width"]:
    """Latents for one prompt per batch row; `negative` is shared. `on_step` may raise to stop.

    `regions` says how prompts with regions are sampled, blend included; None: region attention alone, with the
    prompts' own blend. `colour` is what the bootstrap shows around a region, in latent space; None: 0. `source` is a
    clip to change; None: one is made from noise alone. `limits` say at which noise concepts act; None: at all.
    """
    path, settings, guides = backbone.noise_path, regions or RegionSettings(), cfg != 1.0
    if regions is not None:
        prompts = blended(prompts, regions.blend)
    negatives = [negative] * len(prompts)
    empties = [prompt.empty if has_regions(prompt) else negative for prompt in prompts]
    predict = partial(predict_rows, backbone, attachment, limits=limits)
    schedule = region_schedule(settings, lambda share: path.sampling_level(1 - share))
    times = (path.times(steps) if source is None else source.levels(path, steps)).to(noise)
    levels = times.tolist()
    latents = path.start(noise, times[0]) if source is None else path.mix(source.latents, noise, times[0])
    # As much noise as the latents hold: the first step sees no more of a colour than they do.
    held = latents / times[0] if source is None else noise
    merging = RowMerging(predict, path, backbone.grid(noise.shape[1:]), prompts, settings, held, colour)
    for t, next_t in pairwise(times):
        plan = schedule.plan(float(t), levels)
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
        if source is not None:
            latents = source.kept(latents, path, noise, next_t)
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
    limits: NoiseLimits | None = None,
) -> tuple[Float[Tensor, "batch channels frames height width"], list[Float[Tensor, " regions"] | None]]:
    """The prediction for one prompt per batch row and, when `measure`d, each row's attention masses (else None).

    Prompts of several lengths are several model calls: each row's result is the same as alone.
    """
    if limits is not None:
        prompts = [limits.at(prompt, backbone.noise_path.position(float(t))) for prompt in prompts]
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
