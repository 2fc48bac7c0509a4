"""How a clip's sampling began, for samplers that go on with it: its noise, and its scenes without their regions.

A schedule may be split over several samplers (KSampler (Advanced), SplitSigmas), or over two models, one an expert for
high noise and one for low. What the first step has shown is needed by all of them: a sampler that stops early leaves it
here beside the latents at which it stopped, and one that goes on from these latents, without noise of its own, finds
it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...ccvd_core.backbones.hosted import window_frames
from ...ccvd_core.regions.region import RegionError
from ...ccvd_core.regions.run import Beginning

FRAMES = 2
"""The dimension of latents [batch, channels, frames, height, width] that is time."""
KEPT_STAGES = 4
"""A stage holds four tensors of the latents' size, in the machine's memory. Several are kept because ComfyUI does not
run a first sampler again when only the second one's settings change."""
SAME_LATENTS = 1e-2
"""How far latents may be from those that a stage left, relative to their size: some are kept in 16 bits meanwhile."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a sampler stopped, at the noise level `level`."""

    latents: Tensor
    level: float
    beginning: Beginning


def check_windows(model_options: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise RegionError where latents of this shape would be sampled in windows over something else than frames."""
    handler = model_options.get("context_handler")
    along = getattr(handler, "dim", FRAMES)
    if along != FRAMES and along < len(shape) and shape[along] > getattr(handler, "context_length", 0):
        raise RegionError(
            f"The context windows in front of this sampler divide the latents along `dim` {along}, and regions can "
            f"only follow windows over a clip's frames. Set `dim` of Context Windows (Manual) to {FRAMES}, or remove "
            "that node."
        )


class Stages:
    """The last samplers that stopped before their clip was finished."""

    def __init__(self) -> None:
        self._stages: deque[Stage] = deque(maxlen=KEPT_STAGES)

    def leave(self, latents: Tensor, level: float, beginning: Beginning) -> None:
        self._stages.append(Stage(latents.cpu(), level, beginning.kept()))

    def find(self, latents: Tensor, level: float) -> Beginning | None:
        """The beginning of what goes on from these latents; None: they come from elsewhere."""
        near = []
        for stage in self._stages:
            if latents.shape == stage.latents.shape and math.isclose(level, stage.level, rel_tol=1e-3):
                distance = float((latents.cpu() - stage.latents).norm() / stage.latents.norm().clamp_min(1e-9))
                if distance <= SAME_LATENTS:
                    near.append((distance, stage))
        if not near:
            return None
        found = min(near, key=lambda pair: pair[0])[1].beginning
        return Beginning(found.noise, dict(found.surroundings))


def frames_of(clip: Tensor | None, x: Tensor, options: Mapping[str, Any]) -> Tensor | None:
    """Which latent frames of the clip `x` shows: all, or a context window's. None: its shape is not the clip's."""
    if clip is None:
        return None
    window = window_frames(options["transformer_options"])
    frames = torch.arange(clip.shape[2]) if window is None else torch.tensor(window[0])
    return frames if x.shape == (*clip.shape[:2], len(frames), *clip.shape[3:]) else None
