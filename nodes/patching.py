"""Putting concepts on a stock MODEL: one injection and two wrappers on a clone, so that any sampler works with it.

CONDITIONING carries each prompt's weights under the key `ccvd`; ComfyUI keeps such keys and gives every conditioning a
uuid, which tells the model call which batch rows belong to which prompt, however the sampler batches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection, WrappersMP

from ..ccvd_core.backbones.attachment import Attachment
from ..ccvd_core.backbones.base import ConceptPrompt, EncodedText
from ..ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ..ccvd_core.concept import Concept
from ..ccvd_core.errors import CCVDError

KEY = "ccvd"


@dataclass(frozen=True)
class PromptState:
    """What a conditioning carries: the prompt and the concepts that its columns stand for."""

    prompt: ConceptPrompt
    concepts: tuple[str, ...]

    def over(self, names: Sequence[str]) -> ConceptPrompt:
        """The prompt with columns for `names`: concepts it does not know have weight 0."""
        weights = torch.zeros(self.prompt.weights.shape[0], len(names))
        gates = torch.zeros(self.prompt.gates.shape[0], len(names))
        for column, name in enumerate(self.concepts):
            if name in names:
                weights[:, names.index(name)] = self.prompt.weights[:, column]
                gates[:, names.index(name)] = self.prompt.gates[:, column]
        return replace(self.prompt, weights=weights, gates=gates)


class ConceptRuntime:
    """The concepts on one patched MODEL and, while it is loaded, their attachment."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = tuple(concepts)
        self._names = [concept.name for concept in concepts]
        self._attachment: Attachment | None = None
        self._prompts: dict[Any, PromptState] = {}

    def inject(self, patcher: ModelPatcher) -> None:
        backbone = ComfyWanBackbone(patcher.model.diffusion_model, no_text, patcher.model.get_dtype_inference())
        self._attachment = Attachment(backbone, [concept.adapters for concept in self.concepts])
        self._attachment.attach()

    def eject(self, _: ModelPatcher) -> None:
        if self._attachment is not None:
            self._attachment.detach()
            self._attachment = None

    def note_conditionings(self, executor: Any, model: Any, conds: Any, *args: Any, **kwargs: Any) -> Any:
        """CALC_COND_BATCH wrapper: remember which uuid carries which prompt."""
        self._prompts = {
            cond["uuid"]: cond[KEY] for group in conds if group is not None for cond in group if KEY in cond
        }
        return executor(model, conds, *args, **kwargs)

    def run_model(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        clip_fea: Any = None,
        time_dim_concat: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """DIFFUSION_MODEL wrapper, with WanModel's arguments: let each batch row's prompt act on this call."""
        options = transformer_options or {}
        args = (x, timestep, context, clip_fea, time_dim_concat, options)
        uuids = options.get("uuids", [])
        states = [self._prompts.get(uuid) for uuid in uuids]
        if self._attachment is None or not any(states):
            return executor(*args, **kwargs)
        rows = x.shape[0] // len(uuids)
        prompts = [None if state is None else state.over(self._names) for state in states for _ in range(rows)]
        with self._attachment.activate(prompts, x.device, context.shape[1]):
            return executor(*args, **kwargs)


def no_text(_: str) -> EncodedText:
    """While sampling, prompts are encoded already."""
    raise CCVDError("This model is only used for sampling: it has no text encoder.")


def with_concepts(model: ModelPatcher, concepts: Sequence[Concept]) -> ModelPatcher:
    """A clone of MODEL that knows `concepts` too; those already on it stay. The original is untouched."""
    patched = model.clone()
    present = patched.get_attachment(KEY)
    known = {concept.name: concept for concept in (present.concepts if present else ())}
    runtime = ConceptRuntime(list({**known, **{concept.name: concept for concept in concepts}}.values()))
    patched.set_attachments(KEY, runtime)
    patched.set_injections(KEY, [PatcherInjection(runtime.inject, runtime.eject)])
    for kind, wrapper in (
        (WrappersMP.CALC_COND_BATCH, runtime.note_conditionings),
        (WrappersMP.DIFFUSION_MODEL, runtime.run_model),
    ):
        patched.remove_wrappers_with_key(kind, KEY)
        patched.add_wrapper_with_key(kind, KEY, wrapper)
    return patched
