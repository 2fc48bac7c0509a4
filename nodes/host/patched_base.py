"""A MODEL with ComfyUI's own patches on it, such as a LoRA in front of Learn Concept: that is what is learned on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor

LOOKED_AT = 16
"""Values of each tensor of a patch that tell it from another."""
NOTE = (
    "Note: A LoRA is in front of Learn Concept, so the concept is learned on top of it and is for videos that are made "
    "with it. With a LoRA for few steps (distilled), learn without it, and connect it to Aggregate Adapters only."
)


def patch_notes(model: ModelPatcher) -> list[str]:
    """What the artist should know of patches on a MODEL that is learned on."""
    return [NOTE] if model.patches else []


def patch_identity(model: ModelPatcher) -> dict[str, str]:
    """What tells lessons on this MODEL from those on it without its patches; empty where there are none."""
    if not model.patches:
        return {}
    digest = hashlib.sha256()
    for key in sorted(model.patches):
        for patch in model.patches[key]:
            digest.update(f"{key} {patch[0]} {patch[2]} {patch[3]}".encode())
            for tensor in tensors_of(patch[1]):
                values = tensor.detach().flatten()[:LOOKED_AT].float().cpu()
                digest.update(f"{tuple(tensor.shape)} {values.tolist()}".encode())
    return {"patches": digest.hexdigest()[:32]}


def tensors_of(patch: Any) -> Iterator[Tensor]:
    """The tensors of a patch: ComfyUI has them in tuples, or in an adapter's `weights`."""
    if isinstance(patch, Tensor):
        yield patch
    for part in patch if isinstance(patch, tuple | list) else getattr(patch, "weights", None) or ():
        yield from tensors_of(part)
