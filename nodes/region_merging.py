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
from ..ccvd_core.noise_merge import RegionSettings, bootstrap_input, merge_noise, noisy_surroundings
from ..ccvd_core.region_masks import latent_masks
from ..ccvd_core.sampling import own_prompts

Place = tuple[int, uuid.UUID]
"""The number of a group of conditionings, and a scene in it."""


@dataclass(frozen=True, eq=False)
class OwnPrediction:
    """One more group to compute: group `group` with prompt `region` (from 0) in the place of its scene `scene`."""

    group: int
    scene: uuid.UUID
    region: int
    conds: list[dict[str, Any]]

    @property
    def place(self) -> Place:
        """Where its scene is."""
        return self.group, self.scene


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A scene without its regions, over the whole clip: the latents `first` of the first step, and what it predicts."""

    scene: RegionalPrompt
    first: Tensor
    clean: Tensor


class RegionMerging:
    """How one patched MODEL merges predictions; state lives here, never in transformer_options."""

    def __init__(self, settings: RegionSettings) -> None:
        self._settings = settings
        self._noise: Tensor | None = None
        self._cfg = 1.0
        self._masks: dict[Any, tuple[RegionalPrompt, Tensor]] = {}
        self._own: dict[int, tuple[RegionalPrompt, tuple[AnyPrompt, ...]]] = {}
        self._first_sigma: float | None = None
        self._surroundings: dict[tuple[int, int], Surroundings] = {}
        self.measures = False
        """The model calls of now are to measure attention."""
        self.masses: dict[uuid.UUID, list[Tensor | None]] = {}
        """By conditioning, per batch row: a_k of the regions."""

    @contextmanager
    def run(self, noise: Tensor | None, cfg: float) -> Iterator[None]:
        """While a sampler runs, with the noise it began with and its guidance."""
        self._noise, self._cfg = noise, cfg
        try:
            yield
        finally:
            self._noise, self._first_sigma = None, None
            self._masks, self._own, self._surroundings = {}, {}, {}

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
        negative: list[dict[str, Any]],
        grid: TokenGrid,
    ) -> list[Tensor]:
        """What `executor` gives for `conds`, with the regions' own predictions merged in.

        They are further groups of the same call, which ComfyUI batches as memory allows, or calls of their own where
        they see another input: a plain colour (bootstrap), or what the first step predicts without the regions (one at
        a time; guided away from `negative`). `prompts` learns whose they are.
        """
        own = further_groups(conds, {name: self._own_prompts(scene) for name, scene in scenes.items()}, prompts)
        empty: list[OwnPrediction] = []
        if self._first_sigma is None:
            self._first_sigma = float(timestep.max())
        if self._settings.mode == "one at a time" and float(timestep.max()) == self._first_sigma:
            empty = further_groups(conds, {name: scene.prompts[:1] for name, scene in scenes.items()}, prompts)
        self.masses, self.measures = {}, True
        hidden = {} if empty else self._hidden(own, scenes, model, x, timestep, options)
        beside = [part for part in own if part.place not in hidden]
        try:
            extra = [part.conds for part in (*beside, *empty)]
            if empty and negative and negative is not conds[1]:
                extra.append(negative)
            results = list(executor(model, [*conds, *extra], x, timestep, options))
            self.measures = False
            results, further = results[: len(conds)], results[len(conds) :]
            predictions = dict(zip(beside, further, strict=False))
            for part in own:
                if part not in predictions:
                    seen = bootstrap_input(x, hidden[part.place], self._mask(scenes[part.scene], x, grid)[part.region])
                    denoised = executor(model, [part.conds], seen, timestep, options)[0]
                    # What the same noise means for x: at soft edges the two inputs differ.
                    predictions[part] = denoised + (x - seen)
        finally:
            self.measures = False
        for part, clean in zip(empty, further[len(beside) :], strict=False):
            if negative:
                away = results[1] if negative is conds[1] else further[-1]
                clean = away + self._cfg * (clean - away)
            self._remember(part, scenes[part.scene], x, clean, options)
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
            parts = {part.region: found for part, found in predictions.items() if part.place == (group, name)}
            # A scene that did not take part in this step (ConditioningSetTimestepRange) has no masses.
            if not parts or name not in self.masses:
                continue
            masks = self._mask(scene, whole, grid)
            for row, mass in enumerate(self.masses[name]):
                if mass is not None:
                    found = torch.stack([parts[region][row] for region in sorted(parts)])
                    changed = merge_noise(whole[row], found, masks, self._settings.strengths(mass))
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

    def _remember(
        self, part: OwnPrediction, scene: RegionalPrompt, x: Tensor, clean: Tensor, options: Mapping[str, Any]
    ) -> None:
        """Keep what the first step says of a scene's surroundings, with context windows for their frames."""
        frames = frames_of(self._noise, x, options)
        if self._noise is None or frames is None:
            return
        key = (part.group, id(scene))
        if key not in self._surroundings:
            self._surroundings[key] = Surroundings(scene, *(torch.zeros_like(self._noise).to(x) for _ in range(2)))
        self._surroundings[key].first[:, :, frames] = x
        self._surroundings[key].clean[:, :, frames] = clean

    def _hidden(
        self,
        own: Sequence[OwnPrediction],
        scenes: Mapping[uuid.UUID, RegionalPrompt],
        model: Any,
        x: Tensor,
        timestep: Tensor,
        options: Mapping[str, Any],
    ) -> dict[Place, Tensor]:
        """What regions' own predictions see outside their region, by scene; nothing: the latents as they are."""
        if self._settings.mode != "one at a time":
            colour = self._noised_colour(model, x, timestep, options)
            return {} if colour is None else {part.place: colour for part in own}
        frames, sigma, hidden = frames_of(self._noise, x, options), float(timestep.max()), {}
        for group, name in {part.place for part in own}:
            known = self._surroundings.get((group, id(scenes[name])))
            if known is not None and frames is not None and self._first_sigma:
                remaining = sigma / self._first_sigma
                around = noisy_surroundings(known.clean[:, :, frames], known.first[:, :, frames], remaining)
                hidden[group, name] = around.to(x)
        return hidden

    def _noised_colour(self, model: Any, x: Tensor, timestep: Tensor, options: Mapping[str, Any]) -> Tensor | None:
        """A plain colour (the mean of all latents) with the sampler's own noise at this sigma; None: no bootstrap now.

        A sampler that starts without noise (add_noise disabled) has none to give the colour.
        """
        frames = frames_of(self._noise, x, options)
        if self._noise is None or frames is None or not self._noise.any():
            return None
        if not self._before(self._settings.bootstrapped_steps, timestep, options):
            return None
        noise = self._noise[:, :, frames].to(x)
        return model.model_sampling.noise_scaling(timestep, noise, torch.zeros_like(noise))


def frames_of(clip: Tensor | None, x: Tensor, options: Mapping[str, Any]) -> Tensor | None:
    """Which latent frames of the clip `x` shows: all, or a context window's. None: its shape is not the clip's."""
    if clip is None:
        return None
    frames = torch.arange(clip.shape[2], device=clip.device)
    window = options["transformer_options"].get("context_window")
    if window is not None:
        frames = window.get_tensor(frames.view(1, 1, -1, 1, 1), clip.device).flatten()
    return frames if x.shape == (*clip.shape[:2], len(frames), *clip.shape[3:]) else None


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
    instead: Mapping[uuid.UUID, Sequence[AnyPrompt]],
    prompts: MutableMapping[uuid.UUID, AnyPrompt],
) -> list[OwnPrediction]:
    """Every group once more for each prompt that is to stand `instead` of a scene in it, the others as they are.

    What stands beside the scene (masks, areas, hooks) counts as before. `prompts` learns whose they are.
    """
    found = []
    for number, group in enumerate(groups):
        for place, cond in enumerate(group or ()):
            for region, prompt in enumerate(instead.get(cond["uuid"], ())):
                around = [*group[:place], with_prompt(cond, prompt, prompts), *group[place + 1 :]]
                found.append(OwnPrediction(number, cond["uuid"], region, around))
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
