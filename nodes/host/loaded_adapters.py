"""Concepts' adapters as a model of their own in ComfyUI's hands, and their attachment to one loaded MODEL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_patcher
import torch
from comfy.model_patcher import ModelPatcher

from ...ccvd_core.attaching.attachment import Attachment
from ...ccvd_core.backbones.hosted import HostedBackbone
from ...ccvd_core.concepts.adapter_bank import BankModule, stack_banks
from ...ccvd_core.concepts.concept import Concept
from .backbone import backbone_of, no_text


@dataclass(frozen=True, eq=False)
class LoadedConcepts:
    """The concepts on one loaded model. Every device's copy of a MODEL has its own."""

    backbone: HostedBackbone
    attachment: Attachment


def load_concepts(patcher: ModelPatcher, key: str) -> LoadedConcepts:
    """Attach the adapters that `add_adapters` gave this very patcher."""
    backbone = backbone_of(patcher, no_text)
    stored = [found.model for found in patcher.get_additional_models_with_key(key)]
    loaded = LoadedConcepts(backbone, Attachment(backbone, stored[0] if stored else []))
    loaded.attachment.attach()
    return loaded


def add_adapters(model: ModelPatcher, key: str, concepts: Sequence[Concept]) -> None:
    """Give MODEL the concepts' adapters as an additional model.

    ComfyUI then counts their memory before it decides how much of the model stays on the device, and moves them there
    and back as it does a ControlNet.
    """
    model.remove_additional_models(key)
    if concepts:
        dtype = model.model.get_dtype_inference()
        kind = comfy.model_patcher.CoreModelPatcher if model.is_dynamic() else ModelPatcher
        model.set_additional_models(
            key, [adapters_model(kind, tuple(concepts), dtype, model.load_device, model.offload_device)]
        )


def adapters_model(
    kind: type[ModelPatcher],
    concepts: tuple[Concept, ...],
    dtype: torch.dtype,
    load_device: torch.device,
    offload_device: torch.device,
) -> ModelPatcher:
    banks = BankModule(stack_banks([concept.adapters for concept in concepts]), dtype)
    patcher = kind(banks.to(offload_device), load_device, offload_device)
    # With this ComfyUI makes a copy for every further device (MultiGPU).
    patcher.cached_patcher_init = (adapters_model, (kind, concepts, dtype, load_device, offload_device))
    return patcher
