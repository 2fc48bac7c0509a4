"""What a lesson needs of ComfyUI's memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_management as memory
from torch import Tensor

from ...ccvd_core.backbones.base import Backbone
from ...ccvd_core.concepts.kinds import Kind
from ...ccvd_core.learning.plan import LearningNeed, check_fits, learning_need
from ...ccvd_core.learning.step import LearningSettings


def check_memory(
    model: Any, backbone: Backbone, kind: Kind, settings: LearningSettings, latents: Sequence[Tensor]
) -> LearningNeed:
    """What learning needs beside the model, made free. Raises LearningError when it cannot fit."""
    device = model.load_device
    shape = max(latents, key=Tensor.numel).shape
    need = learning_need(backbone, kind, settings.rank, shape, settings.batch, backbone.dtype.itemsize, settings.layers)
    memory.free_memory(need.total_bytes + model.model_size(), device)
    free: Any = memory.get_free_memory(device)
    check_fits(need, free)
    if need.total_bytes + model.model_size() - model.loaded_size() > free:
        logging.warning("CCVD: the model does not fit into the GPU beside learning: it is partly offloaded, and slower")
    return need
