"""Attention-guided noise estimation around ComfyUI's own batching, so that any stock sampler works with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...ccvd_core.backbones.grid import TokenGrid
from ...ccvd_core.regions.merging import guided
from ...ccvd_core.regions.modes import RegionSettings, StepPlan, region_schedule
from ...ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt
from ...ccvd_core.regions.run import Beginning, LastPredicted, SceneRun
from .region_groups import OwnPrediction, Place, further_groups
from .region_stages import Stages, frames_of

STAGES = Stages()


class RegionMerging:
    """How one patched MODEL merges predictions; state lives here, never in transformer_options."""

    def __init__(self, settings: RegionSettings) -> None:
        self._settings = settings
        self._cfg = 1.0
        self._levels: list[float] = []
        self._noise: Tensor | None = None
        self._beginning = Beginning()
        self._runs: dict[int, SceneRun] = {}
        self._last = LastPredicted()
        self._merged = False
        self.watches = False
        """It matters of the model calls of now which scenes take part."""
        self.masses: dict[uuid.UUID, list[Tensor | None]] = {}
        """By conditioning that took part, per batch row: a_k of the regions, NaN where it was not measured."""

    @property
    def measures(self) -> bool:
        """The model calls of now are to measure attention."""
        return self.watches and self._settings.row.measured

    @contextmanager
    def run(self, noise: Tensor | None, cfg: float, sigmas: Tensor, latents: Tensor | None) -> Iterator[None]:
        """While a sampler runs over `sigmas`: with its own noise and guidance, or going on from another's `latents`."""
        self._noise, self._cfg, self._levels = noise, cfg, sigmas.tolist()
        self._beginning, self._last, self._merged = Beginning(noise), LastPredicted(), False
        if noise is not None and latents is not None and self._levels and not bool(noise.any()):
            self._beginning = STAGES.find(latents, self._levels[0]) or Beginning()
        try:
            yield
        finally:
            self._noise, self._levels = None, []
            self._beginning, self._runs, self._last = Beginning(), {}, LastPredicted()

    def leave(self, latents: Tensor) -> None:
        """Keep how the clip began for a sampler that goes on from these `latents`, if this one did not finish it."""
        needed = self._beginning.needed_later(self._settings, self._merged)
        if needed and self._levels and self._levels[-1] > 0:
            STAGES.leave(latents, self._levels[-1], self._beginning)

    def plan(self, model: Any, timestep: Tensor) -> StepPlan:
        """What this step does about regions, by its noise level."""
        schedule = region_schedule(self._settings, model.model_sampling.percent_to_sigma)
        return schedule.plan(float(timestep.max()), self._levels)

    def merged(
        self,
        plan: StepPlan,
        executor: Any,
        model: Any,
        conds: Sequence[Any],
        x: Tensor,
        timestep: Tensor,
        options: Mapping[str, Any],
        scenes: Mapping[uuid.UUID, RegionalPrompt],
        prompts: MutableMapping[uuid.UUID, AnyPrompt],
        negative: list[dict[str, Any]],
        grid: TokenGrid,
    ) -> list[Tensor]:
        """What `executor` gives for `conds`, with the regions' own predictions merged in.

        They are further groups of the same call, which ComfyUI batches as memory allows, or calls of their own where
        they see another background. The empty scene is one more group, guided away from `negative`, in the step whose
        background first needs it. `prompts` learns whose they are.
        """
        self._merged = True
        level, frames = float(timestep.max()), frames_of(self._noise, x, options)
        own = further_groups(conds, scenes, prompts, lambda _, scene: self._run(scene).own)
        empty: list[OwnPrediction] = []
        backgrounds: dict[Place, Tensor] = {}
        if frames is not None:
            lacks = partial(self._beginning.lacks, plan.background, level=level, frames=frames)
            empty = further_groups(conds, scenes, prompts, lambda place, scene: [scene.empty] if lacks(place) else [])
            backgrounds = self._backgrounds({part.place for part in own}, plan, model, x, timestep, frames)
        before = {} if plan.anew or frames is None else self._as_before(own, frames)
        beside = [part for part in own if part.place not in backgrounds and part not in before]
        self.masses, self.watches = {}, True
        try:
            extra = [part.conds for part in (*beside, *empty)]
            if empty and negative and negative is not conds[1]:
                extra.append(negative)
            results = list(executor(model, [*conds, *extra], x, timestep, options))
            self.watches = False
            results, further = results[: len(conds)], results[len(conds) :]
            predictions = before | dict(zip(beside, further, strict=False))
            for part in own:
                if part not in predictions:
                    run = self._run(scenes[part.scene])
                    seen = run.seen(part.region, x, backgrounds[part.place], grid)
                    denoised = executor(model, [part.conds], seen, timestep, options)[0]
                    # What the same noise means for x: at soft edges the two inputs differ.
                    predictions[part] = denoised + (x - seen)
        finally:
            self.watches = False
        if frames is not None and self._settings.region_every > 1:
            for part, clean in predictions.items():
                self._last.keep((part.place, part.region), frames, clean)
        for part, clean in zip(empty, further[len(beside) :], strict=False):
            # A scene that does not take part yet (ConditioningSetTimestepRange) is predicted when it does.
            if frames is not None and self._noise is not None and part.scene in self.masses:
                if negative:
                    clean = guided(clean, results[1] if negative is conds[1] else further[-1], self._cfg)
                self._beginning.remember(part.place, level, frames, x, clean, self._noise.shape[2])
        for group in {part.group for part in own}:
            results[group] = self._merge_group(results[group], group, predictions, scenes, grid)
        return results

    def _merge_group(
        self,
        whole: Tensor,
        group: int,
        predictions: Mapping[OwnPrediction, Tensor],
        scenes: Mapping[uuid.UUID, RegionalPrompt],
        grid: TokenGrid,
    ) -> Tensor:
        result = whole.clone()
        for name, scene in scenes.items():
            parts = {
                part.region: found for part, found in predictions.items() if part.group == group and part.scene == name
            }
            # A scene that did not take part in this step has no masses.
            if not parts or name not in self.masses:
                continue
            for row, mass in enumerate(self.masses[name]):
                if mass is not None:
                    found = torch.stack([parts[region][row] for region in sorted(parts)])
                    result[row] += self._run(scene).merge(whole[row], found, mass, grid) - whole[row]
        return result

    def _as_before(self, own: Sequence[OwnPrediction], frames: Tensor) -> dict[OwnPrediction, Tensor]:
        """What was predicted last; nothing for those never predicted."""
        known = {part: self._last.of((part.place, part.region), frames) for part in own}
        return {part: clean for part, clean in known.items() if clean is not None}

    def _run(self, scene: RegionalPrompt) -> SceneRun:
        """The same objects in every step."""
        if id(scene) not in self._runs:
            self._runs[id(scene)] = SceneRun(scene, self._settings)
        return self._runs[id(scene)]

    def _backgrounds(
        self, places: set[Place], plan: StepPlan, model: Any, x: Tensor, timestep: Tensor, frames: Tensor
    ) -> dict[Place, Tensor]:
        """What regions' own predictions see outside their region, by scene; nothing: the latents as they are."""

        def coloured(noise: Tensor) -> Tensor:
            """The mean of all latents, 0, with the sampler's own noise at this sigma."""
            return model.model_sampling.noise_scaling(timestep, noise.to(x), torch.zeros_like(noise).to(x))

        level, found = float(timestep.max()), {}
        for place in places:
            # Where the empty scene was predicted from the latents themselves, the call of the others serves.
            if not self._beginning.started_at(place, level):
                background = self._beginning.background(plan.background, place, level, frames, coloured)
                if background is not None:
                    found[place] = background.to(x)
        return found
