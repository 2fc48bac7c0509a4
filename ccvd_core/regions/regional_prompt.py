"""A scene's prompts, one for the whole frame and one per region, and what a model is given for a batch of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..errors import CCVDError
from ..prompts.concept_prompt import ConceptPrompt
from .region import RegionError, RegionSet


@dataclass(frozen=True, eq=False)
class RegionalPrompt:
    """A scene: `prompts[0]` for the whole frame, `prompts[k]` inside region k of `regions` (from 1, back to front).

    `blend` in 0..1 softens the regions' edges and mixes where they overlap; at 0 every token belongs to one prompt.
    All prompts have the same concepts in the same order. Raises RegionError when prompts and regions do not match.
    """

    prompts: tuple[ConceptPrompt, ...]
    regions: RegionSet
    blend: float = 0.0

    def __post_init__(self) -> None:
        expected = len(self.regions.regions) + 1
        if len(self.prompts) != expected:
            raise RegionError(f"{expected - 1} regions need {expected} prompts; got {len(self.prompts)}.")
        if not 0 <= self.blend <= 1:
            raise RegionError(f"Blend must be between 0 (hard edges) and 1; got {self.blend:g}.")
        shapes = {prompt.weights.shape for prompt in self.prompts}
        if len(shapes) != 1:
            raise RegionError(
                f"The prompts of a scene must be aggregated over the same concepts; got {sorted(shapes)}."
            )

    @property
    def context(self) -> Float[Tensor, "rows width"]:
        """The whole frame's context: what the model itself is given."""
        return self.prompts[0].context

    @property
    def shown(self) -> Mapping[str, Any]:
        return self.prompts[0].shown

    @property
    def is_plain(self) -> bool:
        return len(self.prompts) == 1 and self.prompts[0].is_plain

    @property
    def empty(self) -> ConceptPrompt:
        """The scene without its regions."""
        return self.prompts[0]

    def only(self, region: int) -> RegionalPrompt:
        """The scene with one of its regions (from 1) and the surroundings."""
        kept = replace(self.regions, regions=(self.regions.regions[region - 1],))
        return replace(self, prompts=(self.prompts[0], self.prompts[region]), regions=kept)


AnyPrompt = ConceptPrompt | RegionalPrompt


def rows_of_one_length(prompts: Sequence[AnyPrompt]) -> list[list[int]]:
    """Batch rows that one model call can serve: those whose contexts have the same number of text rows.

    Contexts of other lengths are never padded to a common one: padding takes a part of the attention, so that a
    prompt's prediction would depend on what else is in the batch.
    """
    rows: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(len(prompt.context), []).append(row)
    return list(rows.values())


def stack_contexts(prompts: Sequence[AnyPrompt]) -> Float[Tensor, "batch rows width"]:
    """The prompts' contexts as one batch. Raises CCVDError for contexts of several lengths."""
    lengths = sorted({len(prompt.context) for prompt in prompts})
    if len(lengths) != 1:
        raise CCVDError(
            f"One model call takes prompts with one number of text rows; got {lengths}. Call once for each of "
            "rows_of_one_length."
        )
    return torch.stack([prompt.context for prompt in prompts])


def has_regions(prompt: AnyPrompt) -> TypeGuard[RegionalPrompt]:
    """Whether a prompt is a scene with at least one region."""
    return isinstance(prompt, RegionalPrompt) and len(prompt.prompts) > 1


def stack_shown(prompts: Sequence[AnyPrompt], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What the prompts of a batch are shown, tensors batched; all are shown the same kinds of things."""
    return {
        key: torch.cat([prompt.shown[key] for prompt in prompts]).to(device, dtype) if torch.is_tensor(value) else value
        for key, value in prompts[0].shown.items()
    }


def predict_prompts(
    backbone: Backbone,
    latents: Float[Tensor, "batch channels frames height width"],
    level: Float[Tensor, " batch"],
    prompts: Sequence[AnyPrompt],
) -> Float[Tensor, "batch channels frames height width"]:
    """`backbone.predict` for one prompt per batch row, all with the same number of text rows.

    Concepts take part only inside `attach` (see `Attachment`); outside, prompts must be plain.
    """
    contexts = stack_contexts(prompts).to(latents.device, backbone.dtype)
    return backbone.predict(latents, level, contexts, stack_shown(prompts, latents.device, backbone.dtype))
