"""How the sampling of a clip began: its noise, and its scenes without their regions.

A schedule may be split over several samplers (KSampler (Advanced), SplitSigmas), or over two models, as the experts of
Wan 2.2 are. What the first step has shown is needed by all of them: a sampler that stops early leaves it here beside
the latents at which it stopped, and one that goes on from these latents, without noise of its own, finds it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...ccvd_core.regions.merging import noisy_surroundings

KEPT_STAGES = 4
"""A stage holds four tensors of the latents' size, in the machine's memory. Several are kept because ComfyUI does not
run a first sampler again when only the second one's settings change."""
SAME_LATENTS = 1e-2
"""How far latents may be from those that a stage left, relative to their size: some are kept in 16 bits meanwhile."""

Place = tuple[int, int]
"""The number of a group of conditionings, and of a scene in it."""


@dataclass(eq=False)
class Surroundings:
    """A scene without its regions, over the whole clip: what was predicted, `clean`, from the latents `first`.

    `level` is their noise level; `windows` are the latent frames that were looked at together.
    """

    level: float
    first: Tensor
    clean: Tensor
    windows: set[tuple[int, ...]] = field(default_factory=set)


@dataclass(eq=False)
class Beginning:
    """The noise that a clip's sampling began with (None: unknown), and its scenes' surroundings."""

    noise: Tensor | None = None
    surroundings: dict[Place, Surroundings] = field(default_factory=dict)

    def lacks(self, place: Place, level: float, frames: Tensor) -> bool:
        """Whether a scene's surroundings are still to be predicted; a second call for the same frames brings none."""
        known = self.surroundings.get(place)
        return known is None or (known.level == level and window(frames) not in known.windows)

    def remember(self, place: Place, level: float, frames: Tensor, first: Tensor, clean: Tensor, clip: Tensor) -> None:
        """Keep what was predicted for these frames of a `clip`."""
        if place not in self.surroundings:
            empty = torch.zeros_like(clip).to(first)
            self.surroundings[place] = Surroundings(level, empty, empty.clone())
        known = self.surroundings[place]
        known.first[:, :, frames], known.clean[:, :, frames] = first, clean
        known.windows.add(window(frames))

    def around(self, place: Place, level: float, frames: Tensor) -> Tensor | None:
        """A scene's surroundings, as noisy as `level`; None at the level where the latents themselves are that."""
        known = self.surroundings.get(place)
        if known is None or known.level == level:
            return None
        return noisy_surroundings(known.clean[:, :, frames], known.first[:, :, frames], level / known.level)

    def kept(self) -> Beginning:
        """A copy in the machine's memory."""
        return Beginning(
            None if self.noise is None else self.noise.cpu(),
            {
                place: Surroundings(known.level, known.first.cpu(), known.clean.cpu(), known.windows)
                for place, known in self.surroundings.items()
            },
        )


@dataclass(frozen=True, eq=False)
class Stage:
    """Where a sampler stopped, at the noise level `level`."""

    latents: Tensor
    level: float
    beginning: Beginning


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


def window(frames: Tensor) -> tuple[int, ...]:
    return tuple(frames.tolist())


def frames_of(clip: Tensor | None, x: Tensor, options: Mapping[str, Any]) -> Tensor | None:
    """Which latent frames of the clip `x` shows: all, or a context window's. None: its shape is not the clip's."""
    if clip is None:
        return None
    frames = torch.arange(clip.shape[2])
    part = options["transformer_options"].get("context_window")
    if part is not None:
        frames = part.get_tensor(frames.view(1, 1, -1, 1, 1), frames.device).flatten()
    return frames if x.shape == (*clip.shape[:2], len(frames), *clip.shape[3:]) else None
