"""Running the learning loop inside ComfyUI: its memory management."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as memory
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

from ...ccvd_core.backbones.hosted import HostedBackbone
from .own_weights import forget_inference_buffers, leave_inference_mode, own_weights

LEARNING = "ccvd_learning"
"""Our callbacks' key on a MODEL that is learned on."""


@contextmanager
def training_mode(model: ModelPatcher, needed_bytes: int) -> Iterator[None]:
    """Load MODEL for training beside `needed_bytes`; always leave ComfyUI as it was.

    The executor runs nodes in inference mode, where nothing can be differentiated: the mode is left, and weights that
    were loaded in it are replaced by equal copies, now and whenever ComfyUI loads the model anew (a preview's VAE may
    push it out).
    """
    was_training = memory.in_training

    def loaded(patcher: ModelPatcher, *_: Any) -> None:
        forget_inference_buffers()
        leave_inference_mode(patcher.model.diffusion_model, patcher.load_device)

    with torch.inference_mode(False), torch.enable_grad():
        model.add_callback_with_key(CallbacksMP.ON_LOAD, LEARNING, loaded)
        try:
            memory.load_models_gpu([model], memory_required=needed_bytes)
            loaded(model)
            memory.in_training = True
            with own_weights(model.model.diffusion_model):
                yield
        finally:
            memory.in_training = was_training
            model.remove_callbacks_with_key(CallbacksMP.ON_LOAD, LEARNING)


def largest_weights(backbone: HostedBackbone) -> int:
    """Bytes of the weights that a backward pass keeps when they are not on the device: of one recomputed part."""
    # By their shapes: packed weights (GGUF) have fewer bytes than that, until they are used.
    values = (sum(math.prod(parameter.shape) for parameter in part.parameters()) for part in backbone.recomputed())
    return max(values) * backbone.dtype.itemsize
