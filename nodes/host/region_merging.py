"""Attention-guided noise estimation around ComfyUI's own batching, so that any stock sampler works with it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...ccvd_core.backbones.grid import TokenGrid
from ...ccvd_core.regions.masks import latent_grid, latent_masks, own_view
from ...ccvd_core.regions.merging import RegionSettings, bootstrap_input, merge_noise
from ...ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt
from ...ccvd_core.regions.steps import StepParts, region_schedule
from ...ccvd_core.sampling import own_prompts
from .region_stages import Beginning, Place, Stages, frames_of

STAGES = Stages()


@dataclass(frozen=True, eq=False)
class OwnPrediction:
    """One more group to compute: the group at `place` with prompt `region` (from 0) instead of its scene `scene`."""

    place: Place
    scene: uuid.UUID
    region: int
    conds: list[dict[str, Any]]

    @property
    def group(self) -> int:
        return self.place[0]


@dataclass(eq=False)
class SceneState:
    """What is made once per run for a scene: the regions' own prompts, and by size their masks and what each sees."""

    scene: RegionalPrompt
    own: tuple[AnyPrompt, ...]
    masks: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)


class RegionMerging:
    """How one patched MODEL merges predictions; state lives here, never in transformer_options."""

    def __init__(self, settings: RegionSettings) -> None:
        self._settings = settings
        self._cfg = 1.0
        self._levels: list[float] = []
        self._noise: Tensor | None = None
        self._beginning = Beginning()
        self._states: dict[int, SceneState] = {}
        self._merged = False
        self.watches = False
        """It matters of the model calls of now which scenes take part."""
        self.masses: dict[uuid.UUID, list[Tensor | None]] = {}
        """By conditioning that took part, per batch row: a_k of the regions, NaN where it was not measured."""

    @property
    def measures(self) -> bool:
        """The model calls of now are to measure attention."""
        return self.watches and self._settings.measures

    @contextmanager
    def run(self, noise: Tensor | None, cfg: float, sigmas: Tensor, latents: Tensor | None) -> Iterator[None]:
        """While a sampler runs over `sigmas`: with its own noise and guidance, or going on from another's `latents`."""
        self._noise, self._cfg, self._levels = noise, cfg, sigmas.tolist()
        self._beginning, self._merged = Beginning(noise), False
        if noise is not None and latents is not None and self._levels and not bool(noise.any()):
            self._beginning = STAGES.find(latents, self._levels[0]) or Beginning()
        try:
            yield
        finally:
            self._noise, self._levels = None, []
            self._beginning, self._states = Beginning(), {}

    def leave(self, latents: Tensor) -> None:
        """Keep how the clip began for a sampler that goes on from these `latents`, if this one did not finish it."""
        needed = self._beginning.surroundings or (self._merged and self._settings.bootstrapped_share)
        if needed and self._levels and self._levels[-1] > 0:
            STAGES.leave(latents, self._levels[-1], self._beginning)

    def step(self, model: Any, timestep: Tensor) -> StepParts:
        """What this step does about regions, by its noise level."""
        schedule = region_schedule(self._settings, model.model_sampling.percent_to_sigma)
        return schedule.step(float(timestep.max()), self._levels)

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
        negative: list[dict[str, Any]],
        grid: TokenGrid,
    ) -> list[Tensor]:
        """What `executor` gives for `conds`, with the regions' own predictions merged in.

        They are further groups of the same call, which ComfyUI batches as memory allows, or calls of their own where
        they see another input: a plain colour (bootstrap), or what the first step predicts without the regions (one at
        a time; guided away from `negative`). `prompts` learns whose they are.
        """
        self._merged = True
        level, frames = float(timestep.max()), frames_of(self._noise, x, options)
        own = further_groups(conds, scenes, prompts, lambda _, scene: self._state(scene).own)
        empty: list[OwnPrediction] = []
        if self._settings.mode == "one at a time" and frames is not None:
            some = frames
            empty = further_groups(
                conds,
                scenes,
                prompts,
                lambda place, scene: scene.prompts[:1] if self._beginning.lacks(place, level, some) else (),
            )
        hidden = {} if frames is None else self._hidden({part.place for part in own}, model, x, timestep, frames)
        beside = [part for part in own if part.place not in hidden]
        self.masses, self.watches = {}, True
        try:
            extra = [part.conds for part in (*beside, *empty)]
            if empty and negative and negative is not conds[1]:
                extra.append(negative)
            results = list(executor(model, [*conds, *extra], x, timestep, options))
            self.watches = False
            results, further = results[: len(conds)], results[len(conds) :]
            predictions = dict(zip(beside, further, strict=False))
            for part in own:
                if part not in predictions:
                    view = self._masks(scenes[part.scene], x, grid)[1][part.region]
                    seen = bootstrap_input(x, hidden[part.place], view)
                    denoised = executor(model, [part.conds], seen, timestep, options)[0]
                    # What the same noise means for x: at soft edges the two inputs differ.
                    predictions[part] = denoised + (x - seen)
        finally:
            self.watches = False
        for part, clean in zip(empty, further[len(beside) :], strict=False):
            # A scene that does not take part yet (ConditioningSetTimestepRange) is predicted when it does.
            if frames is not None and self._noise is not None and part.scene in self.masses:
                if negative:
                    away = results[1] if negative is conds[1] else further[-1]
                    clean = away + self._cfg * (clean - away)
                self._beginning.remember(part.place, level, frames, x, clean, self._noise)
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
            masks = self._masks(scene, whole, grid)[0]
            for row, mass in enumerate(self.masses[name]):
                if mass is not None:
                    found = torch.stack([parts[region][row] for region in sorted(parts)])
                    changed = merge_noise(whole[row], found, masks, self._settings.strengths(mass))
                    result[row] += changed - whole[row]
        return result

    def _state(self, scene: RegionalPrompt) -> SceneState:
        """The same objects in every step."""
        if id(scene) not in self._states:
            self._states[id(scene)] = SceneState(scene, own_prompts(scene, self._settings))
        return self._states[id(scene)]

    def _masks(self, scene: RegionalPrompt, x: Tensor, grid: TokenGrid) -> tuple[Tensor, Tensor]:
        """Masks [regions, frames, height, width] of the latents' size, and what each region's own prediction sees."""
        masks, key = self._state(scene).masks, (x.shape[2:], grid)
        if key not in masks:
            made = latent_masks(scene.regions, x.shape, grid, scene.blend)[1:].to(x)
            masks[key] = made, own_view(made, latent_grid(x.shape, grid))
        return masks[key]

    def _hidden(
        self, places: set[Place], model: Any, x: Tensor, timestep: Tensor, frames: Tensor
    ) -> dict[Place, Tensor]:
        """What regions' own predictions see outside their region, by scene; nothing: the latents as they are."""
        if self._settings.mode != "one at a time":
            colour = self._noised_colour(model, x, timestep, frames)
            return {} if colour is None else dict.fromkeys(places, colour)
        found = {place: self._beginning.around(place, float(timestep.max()), frames) for place in places}
        return {place: around.to(x) for place, around in found.items() if around is not None}

    def _noised_colour(self, model: Any, x: Tensor, timestep: Tensor, frames: Tensor) -> Tensor | None:
        """A plain colour (the mean of all latents) with the sampler's own noise at this sigma; None: no bootstrap now.

        A sampler that starts without noise, from latents of which no beginning is known, has none to give the colour.
        """
        noise = self._beginning.noise
        if noise is None or not self.step(model, timestep).bootstrapped:
            return None
        some = noise[:, :, frames].to(x)
        return model.model_sampling.noise_scaling(timestep, some, torch.zeros_like(some))


def away_from_empty(
    conds: Sequence[Any], scenes: Mapping[uuid.UUID, RegionalPrompt], prompts: MutableMapping[uuid.UUID, AnyPrompt]
) -> Sequence[Any]:
    """The groups [positive, negative] with the scenes' own surroundings in the negative prompt's place.

    Only where the positive is all scenes: whatever stands beside them would be guided away from itself.
    """
    if len(conds) != 2 or not conds[1] or not all(cond["uuid"] in scenes for cond in conds[0]):
        return conds
    return [conds[0], [with_prompt(cond, scenes[cond["uuid"]].prompts[0], prompts) for cond in conds[0]]]


def further_groups(
    groups: Sequence[Any],
    scenes: Mapping[uuid.UUID, RegionalPrompt],
    prompts: MutableMapping[uuid.UUID, AnyPrompt],
    instead: Callable[[Place, RegionalPrompt], Sequence[AnyPrompt]],
) -> list[OwnPrediction]:
    """Every group once more for each prompt that is to stand `instead` of a scene in it, the others as they are.

    What stands beside the scene (masks, areas, hooks) counts as before. `prompts` learns whose they are.
    """
    found = []
    for number, group in enumerate(groups):
        places = (at for at, cond in enumerate(group or ()) if cond["uuid"] in scenes)
        for count, at in enumerate(places):
            cond, place = group[at], (number, count)
            for region, prompt in enumerate(instead(place, scenes[cond["uuid"]])):
                around = [*group[:at], with_prompt(cond, prompt, prompts), *group[at + 1 :]]
                found.append(OwnPrediction(place, cond["uuid"], region, around))
    return found


def with_prompt(
    cond: dict[str, Any], prompt: AnyPrompt, prompts: MutableMapping[uuid.UUID, AnyPrompt]
) -> dict[str, Any]:
    """The conditioning with this prompt's text in it, as one of its own; `prompts` learns whose it is."""
    text = cond["model_conds"]["c_crossattn"]
    context = text._copy_with(prompt.context.unsqueeze(0).to(text.cond))
    replaced = {**cond, "uuid": uuid.uuid4(), "model_conds": {**cond["model_conds"], "c_crossattn": context}}
    prompts[replaced["uuid"]] = prompt
    return replaced
