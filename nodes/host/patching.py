"""Putting concepts on a stock MODEL: one injection and three wrappers on a clone, so that any sampler works with it.

CONDITIONING carries each prompt's weights and regions under the key `ccvd`; ComfyUI keeps such keys and gives every
conditioning a uuid, which tells the model call which batch rows belong to which prompt, however the sampler batches
them.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection, WrappersMP

from ...ccvd_core.concepts.adjustments import NoiseRange
from ...ccvd_core.concepts.concept import Concept
from ...ccvd_core.prompts.concept_prompt import ConceptPrompt
from ...ccvd_core.regions.modes import RegionSettings
from ...ccvd_core.regions.noise_limits import NoiseLimits
from ...ccvd_core.regions.region import RegionError
from ...ccvd_core.regions.regional_prompt import AnyPrompt, RegionalPrompt, has_regions
from .loaded_adapters import LoadedConcepts, add_adapters, load_concepts
from .region_groups import away_from_empty
from .region_merging import RegionMerging
from .region_stages import check_windows

KEY = "ccvd"


@dataclass(frozen=True, eq=False)
class PromptState:
    """What a conditioning carries: the prompt, or scene, the concepts of its columns, and at which noise they act."""

    prompt: AnyPrompt
    concepts: tuple[str, ...]
    ranges: Mapping[str, NoiseRange] = field(default_factory=dict)

    def over(self, names: Sequence[str], blend: float | None) -> AnyPrompt:
        """The prompt with columns for `names`: concepts it does not know have weight 0. `blend` None: its own."""
        if isinstance(self.prompt, ConceptPrompt):
            return self._columns(self.prompt, names)
        prompts = tuple(self._columns(prompt, names) for prompt in self.prompt.prompts)
        if len(prompts) == 1:
            return prompts[0]
        return replace(self.prompt, prompts=prompts, blend=self.prompt.blend if blend is None else blend)

    def _columns(self, prompt: ConceptPrompt, names: Sequence[str]) -> ConceptPrompt:
        weights = torch.zeros(prompt.weights.shape[0], len(names))
        gates = torch.zeros(prompt.gates.shape[0], len(names))
        for column, name in enumerate(self.concepts):
            if name in names:
                weights[:, names.index(name)] = prompt.weights[:, column]
                gates[:, names.index(name)] = prompt.gates[:, column]
        return replace(prompt, weights=weights, gates=gates)


class ConceptRuntime:
    """The concepts on one patched MODEL, how it samples regions and, while it is loaded, their attachments.

    ComfyUI's copies of a MODEL for several devices share this object: what belongs to a device is kept by its model.
    """

    def __init__(self, concepts: Sequence[Concept], settings: RegionSettings | None = None) -> None:
        self.concepts, self.settings = tuple(concepts), settings
        self._names = [concept.name for concept in concepts]
        self._loaded: weakref.WeakKeyDictionary[Any, LoadedConcepts] = weakref.WeakKeyDictionary()
        self._prompts: dict[uuid.UUID, AnyPrompt] = {}
        self._known: dict[int, tuple[PromptState, AnyPrompt]] = {}
        self._limits = NoiseLimits((), {})
        self._references = 0
        self._merging = RegionMerging(settings or RegionSettings())

    def inject(self, patcher: ModelPatcher) -> None:
        self.eject(patcher)
        self._loaded[patcher.model] = load_concepts(patcher, KEY)

    def eject(self, patcher: ModelPatcher) -> None:
        loaded = self._loaded.pop(patcher.model, None)
        if loaded is not None:
            loaded.attachment.detach()
        self._prompts, self._known = {}, {}

    def sample(
        self,
        executor: Any,
        guider: Any,
        sigmas: Any,
        extra: Any,
        callback: Any,
        noise: Any,
        latents: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """SAMPLER_SAMPLE wrapper: what is made once per run is kept as long as the sampler runs, and its noise."""
        own = [cond for group in guider.conds.values() for cond in group or ()]
        if any(KEY in cond and has_regions(cond[KEY].prompt) for cond in own):
            check_windows(extra["model_options"], noise.shape)
        try:
            for loaded in [*self._loaded.values()][:1]:  # copies of one model: each gives the same answer
                self._references = loaded.backbone.reference_frames([cond["model_conds"] for cond in own])
            # Guiders with several scales have no cfg.
            with self._merging.run(noise, getattr(guider, "cfg", 1.0), sigmas, latents):
                samples = executor(guider, sigmas, extra, callback, noise, latents, *args, **kwargs)
                self._merging.leave(samples)
                return samples
        finally:
            self._prompts, self._known, self._references = {}, {}, 0
            self._limits = NoiseLimits((), {})
            for loaded in self._loaded.values():
                loaded.attachment.forget_scenes()

    def calc_conds(
        self, executor: Any, model: Any, conds: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any
    ) -> Any:
        """CALC_COND_BATCH wrapper: remember which uuid carries which prompt, and merge regions' own predictions."""
        conds = own_conditionings(conds)
        self._prompts = {}
        self._limit(conds)
        for group in conds:
            for cond in group or ():
                if KEY in cond:
                    self._prompts[cond["uuid"]] = self._prompt(cond)
        scenes = {u: prompt for u, prompt in self._prompts.items() if isinstance(prompt, RegionalPrompt)}
        negative = conds[1] if len(conds) == 2 and conds[1] else []
        loaded = self._loaded.get(model)
        if loaded is None or not scenes:
            return executor(model, conds, x, timestep, options)
        plan = self._merging.plan(model, timestep)
        if plan.contrast:
            conds = away_from_empty(conds, scenes, self._prompts)
        if not plan.merge:
            return executor(model, conds, x, timestep, options)
        grid = loaded.backbone.call_grid(x, options["transformer_options"], None, {}, self._references)
        return self._merging.merged(
            plan, executor, model, conds, x, timestep, options, scenes, self._prompts, negative, grid
        )

    def apply_model(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: torch.Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """APPLY_MODEL wrapper, with BaseModel's arguments: let each batch row's prompt act on this call.

        Around the model and not inside it: what a compiled model calls itself is frozen when it is compiled.
        """
        options = transformer_options or {}
        args = (x, t, c_concat, c_crossattn, control, options)
        uuids = options.get("uuids", [])
        found = [self._prompts.get(uuid) for uuid in uuids]
        loaded = self._loaded.get(executor.class_obj)
        if loaded is None or not any(found):
            return executor(*args, **kwargs)
        time = loaded.backbone.noise_path.position(float(t.max()))
        found = [None if prompt is None else self._limits.at(prompt, time) for prompt in found]
        rows = x.shape[0] // len(uuids)
        prompts = [prompt for prompt in found for _ in range(rows)]
        grid = loaded.backbone.call_grid(x, options, kwargs.get("time_dim_concat"), kwargs, self._references)
        text_rows = None if c_crossattn is None else c_crossattn.shape[1]
        with loaded.attachment.activate(prompts, x.device, text_rows, grid, self._merging.measures):
            result = executor(*args, **kwargs)
            if self._merging.watches and any(isinstance(prompt, RegionalPrompt) for prompt in found):
                masses = loaded.attachment.attention_masses()
                for place, u in enumerate(uuids):
                    self._merging.masses[u] = masses[place * rows : (place + 1) * rows]
        return result

    def _limit(self, conds: Sequence[Any]) -> None:
        """Take up the noise at which concepts act: of a run, once, so that what follows from it is kept."""
        states = [cond[KEY] for group in conds for cond in group or () if KEY in cond]
        ranges = {name: limits for state in states for name, limits in state.ranges.items()}
        if ranges != self._limits.ranges:
            self._limits = NoiseLimits(self._names, ranges)

    def _prompt(self, cond: Mapping[str, Any]) -> AnyPrompt:
        """A conditioning's prompt over this MODEL's concepts: the same object in every step."""
        state: PromptState = cond[KEY]
        if id(state) not in self._known:
            blend = None if self.settings is None else self.settings.blend
            self._known[id(state)] = (state, state.over(self._names, blend))
        prompt = self._known[id(state)][1]
        if isinstance(prompt, RegionalPrompt) and cond.get("area") is not None:
            raise RegionError(
                "A conditioning with regions also has an area (Conditioning Set Area, or Set Mask with set_cond_area). "
                "Regions need the whole frame: remove that node, and draw the area as a region instead."
            )
        return prompt


def own_conditionings(conds: Sequence[Any]) -> list[Any]:
    """The groups with every prompt on one conditioning only.

    For a conditioning with an area, ComfyUI gives the other group a copy of it with that group's text in it, and our
    key and its uuid with it: no concept belongs there.
    """
    seen: set[Any] = set()
    groups = []
    for group in conds:
        if group is not None:
            group = [
                {key: value for key, value in cond.items() if key != KEY} | {"uuid": uuid.uuid4()}
                if KEY in cond and cond["uuid"] in seen
                else cond
                for cond in group
            ]
            seen |= {cond["uuid"] for cond in group}
        groups.append(group)
    return groups


def with_concepts(model: ModelPatcher, concepts: Sequence[Concept]) -> ModelPatcher:
    """A clone of MODEL that knows `concepts` too; those already on it stay. The original is untouched."""
    present = model.get_attachment(KEY)
    known = {concept.name: concept for concept in (present.concepts if present else ())}
    merged = {**known, **{concept.name: concept for concept in concepts}}
    return with_runtime(model, ConceptRuntime(list(merged.values()), present.settings if present else None))


def with_region_settings(model: ModelPatcher, settings: RegionSettings) -> ModelPatcher:
    """A clone of MODEL that samples regions by these settings. The original is untouched."""
    present = model.get_attachment(KEY)
    return with_runtime(model, ConceptRuntime(present.concepts if present else (), settings))


def with_runtime(model: ModelPatcher, runtime: ConceptRuntime) -> ModelPatcher:
    patched = model.clone()
    patched.set_attachments(KEY, runtime)
    add_adapters(patched, KEY, runtime.concepts)
    patched.set_injections(KEY, [PatcherInjection(runtime.inject, runtime.eject)])
    for kind, wrapper in (
        (WrappersMP.SAMPLER_SAMPLE, runtime.sample),
        (WrappersMP.CALC_COND_BATCH, runtime.calc_conds),
        (WrappersMP.APPLY_MODEL, runtime.apply_model),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched
