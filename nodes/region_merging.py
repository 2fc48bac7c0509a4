"""Attention-guided noise estimation around ComfyUI's own batching, so that any stock sampler works with it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..ccvd_core.backbones.base import AnyPrompt, RegionalPrompt, TokenGrid
from ..ccvd_core.noise_merge import RegionSettings, bootstrap_input, merge_noise, merge_strengths
from ..ccvd_core.region_masks import latent_masks
from ..ccvd_core.sampling import own_prompts


@dataclass(frozen=True, eq=False)
class OwnPrediction:
    """One more group to compute: group number `group` with its scene `scene` replaced by region `region` (from 0)."""

    group: int
    scene: uuid.UUID
    region: int
    conds: list[dict[str, Any]]


class RegionMerging:
    """How one patched MODEL merges predictions; state lives here, never in transformer_options."""

    def __init__(self, settings: RegionSettings) -> None:
        self._settings = settings
        self._noise: Tensor | None = None
        self._masks: dict[Any, tuple[RegionalPrompt, Tensor]] = {}
        self._own: dict[int, tuple[RegionalPrompt, tuple[AnyPrompt, ...]]] = {}
        self.measures = False
        """The model calls of now are to measure attention."""
        self.masses: dict[uuid.UUID, list[Tensor | None]] = {}
        """By conditioning, per batch row: a_k of the regions."""

    @contextmanager
    def run(self, noise: Tensor | None) -> Iterator[None]:
        """While a sampler runs, with the noise it began with."""
        self._noise = noise
        try:
            yield
        finally:
            self._noise, self._masks, self._own = None, {}, {}

    def now(self, timestep: Tensor, options: Mapping[str, Any]) -> bool:
        """Whether predictions are merged at this sigma."""
        return self._before(self._settings.merged_steps, timestep, options)

    def contrasts(self, timestep: Tensor, options: Mapping[str, Any]) -> bool:
        """Whether this sigma is guided away from the empty scene."""
        return self._before(self._settings.contrasted_steps, timestep, options)

    def _before(self, count: Callable[[int], int], timestep: Tensor, options: Mapping[str, Any]) -> bool:
        sigmas = options.get("transformer_options", {}).get("sample_sigmas")
        if sigmas is None:
            return False
        steps = len(sigmas) - 1
        first = count(steps)
        # The sigmas tell the step, whatever a sampler does within one.
        return bool(first) and float(timestep.max()) > float(sigmas[first]) + 1e-6

    def merged(
        self,
        executor: Any,
        model: Any,
        conds: Sequence[Any],
        x: Tensor,
        timestep: Tensor,
        options: Mapping[str, Any],
        scenes: Mapping[uuid.UUID, RegionalPrompt],
        prompts: MutableMapping[uuid.UUID, AnyPrompt],
        grid: TokenGrid,
    ) -> list[Tensor]:
        """What `executor` gives for `conds`, with the regions' own predictions merged in.

        They are further groups of the same call, which ComfyUI batches as memory allows, or calls of their own where
        they see another input (bootstrap). `prompts` learns whose they are.
        """
        theirs = {name: self._own_prompts(scene) for name, scene in scenes.items()}
        own = [part for number, group in enumerate(conds) for part in own_groups(number, group or (), theirs, prompts)]
        self.masses, self.measures = {}, True
        hidden = self._background(model, x, timestep, options)
        try:
            extra = [] if hidden is not None else [part.conds for part in own]
            results = executor(model, [*conds, *extra], x, timestep, options)
            self.measures = False
            results, predictions = list(results[: len(conds)]), list(results[len(conds) :])
            if hidden is not None:
                for part in own:
                    seen = bootstrap_input(x, hidden, self._mask(scenes[part.scene], x, grid)[part.region])
                    denoised = executor(model, [part.conds], seen, timestep, options)[0]
                    # What the same noise means for x: at soft edges the two inputs differ.
                    predictions.append(denoised + (x - seen))
        finally:
            self.measures = False
        for group in {part.group for part in own}:
            results[group] = self._merge_group(results[group], group, own, predictions, scenes, grid)
        return results

    def _merge_group(
        self,
        whole: Tensor,
        group: int,
        own: Sequence[OwnPrediction],
        predictions: Sequence[Tensor],
        scenes: Mapping[uuid.UUID, RegionalPrompt],
        grid: TokenGrid,
    ) -> Tensor:
        result = whole.clone()
        for name, scene in scenes.items():
            parts = [p for p, part in zip(predictions, own, strict=True) if (part.group, part.scene) == (group, name)]
            # A scene that did not take part in this step (ConditioningSetTimestepRange) has no masses.
            if not parts or name not in self.masses:
                continue
            masks = self._mask(scene, whole, grid)
            for row, mass in enumerate(self.masses[name]):
                if mass is not None:
                    strengths = merge_strengths(mass, self._settings.alpha)
                    changed = merge_noise(whole[row], torch.stack([part[row] for part in parts]), masks, strengths)
                    result[row] += changed - whole[row]
        return result

    def _own_prompts(self, scene: RegionalPrompt) -> tuple[AnyPrompt, ...]:
        """What the regions' own predictions are made with: the same objects in every step."""
        if id(scene) not in self._own:
            self._own[id(scene)] = (scene, own_prompts(scene, self._settings))
        return self._own[id(scene)][1]

    def _mask(self, scene: RegionalPrompt, x: Tensor, grid: TokenGrid) -> Tensor:
        """Masks [regions, frames, height, width] of the latents' size, made once per run."""
        key = (id(scene), x.shape[2:], grid)
        if key not in self._masks:
            masks = latent_masks(scene.regions, x.shape, grid, scene.blend)[1:]
            self._masks[key] = (scene, masks.to(x))
        return self._masks[key][1]

    def _background(self, model: Any, x: Tensor, timestep: Tensor, options: Mapping[str, Any]) -> Tensor | None:
        """A plain colour (the mean of all latents) with the sampler's own noise at this sigma; None: no bootstrap now.

        A sampler that starts without noise (add_noise disabled) has none to give the colour.
        """
        noise = self._noise
        if noise is None or not self._before(self._settings.bootstrapped_steps, timestep, options):
            return None
        window = options["transformer_options"].get("context_window")
        if window is not None:
            noise = window.get_tensor(noise)
        if noise.shape != x.shape or not bool(noise.any()):
            return None
        noise = noise.to(x)
        return model.model_sampling.noise_scaling(timestep, noise, torch.zeros_like(noise))


def away_from_empty(
    conds: Sequence[Any], scenes: Mapping[uuid.UUID, RegionalPrompt], prompts: MutableMapping[uuid.UUID, AnyPrompt]
) -> Sequence[Any]:
    """The groups [positive, negative] with the scenes' own surroundings in the negative prompt's place.

    Only where the positive is all scenes: whatever stands beside them would be guided away from itself.
    """
    if len(conds) != 2 or not conds[1] or not all(cond["uuid"] in scenes for cond in conds[0]):
        return conds
    empty = [{**cond, "uuid": uuid.uuid4()} for cond in conds[0]]
    for cond, scene in zip(empty, conds[0], strict=True):
        prompts[cond["uuid"]] = scenes[scene["uuid"]].prompts[0]
    return [conds[0], empty]


def own_groups(
    number: int,
    group: Sequence[dict[str, Any]],
    own: Mapping[uuid.UUID, Sequence[AnyPrompt]],
    prompts: MutableMapping[uuid.UUID, AnyPrompt],
) -> Iterator[OwnPrediction]:
    """A group once more for each region of each scene in it: its own prompt in the scene's place, the others as they
    are, so that what stands beside the scene (masks, areas, hooks) counts as before. `own`: by scene."""
    for place, cond in enumerate(group):
        for region, prompt in enumerate(own.get(cond["uuid"], ())):
            text = cond["model_conds"]["c_crossattn"]
            context = prompt.context.unsqueeze(0).to(text.cond)
            replaced = {
                **cond,
                "uuid": uuid.uuid4(),
                "model_conds": {**cond["model_conds"], "c_crossattn": text._copy_with(context)},
            }
            prompts[replaced["uuid"]] = prompt
            yield OwnPrediction(number, cond["uuid"], region, [*group[:place], replaced, *group[place + 1 :]])
