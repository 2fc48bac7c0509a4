"""The models that the benchmarks teach: the demo base, and the small text-to-video model of ModelScope's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import base
import numpy as np
import text_to_video
import torch
from base import DemoBase, load_base
from latents import to_tensor
from numpy.typing import NDArray
from text_to_video import SmallModel, halved, load_small
from torch import Tensor
from torch.nn import functional
from world.backgrounds import SIZE
from world.scenes import Choices

from ccvd_core.backbones.base import Backbone


class Base(Protocol):
    """A model with what it knows of the world."""

    @property
    def known(self) -> Choices: ...

    @property
    def backbone(self) -> Backbone: ...

    def encoded(self, frames: NDArray[np.uint8]) -> Tensor:
        """Latents [channels, frames, height, width] of a clip of the world, uint8 [frames, SIZE, SIZE, 3]."""
        ...

    def to_clips(self, latents: Tensor) -> Tensor:
        """Clips [n, frames, SIZE, SIZE, 3] in 0..1."""
        ...

    def noise(self, seeds: Iterable[int]) -> Tensor:
        """What sampling starts from; each seed decides one clip's."""
        ...


@dataclass(frozen=True)
class Demo:
    """The demo base."""

    model: DemoBase
    backbone: Backbone
    known: Choices = base.KNOWN

    def encoded(self, frames: NDArray[np.uint8]) -> Tensor:
        return self.model.to_latents(to_tensor(frames[None]))[0]

    def to_clips(self, latents: Tensor) -> Tensor:
        return self.model.to_clips(latents)

    def noise(self, seeds: Iterable[int]) -> Tensor:
        return base.starting_noise(seeds)


@dataclass(frozen=True)
class Small:
    """The small text-to-video model, whose clips are enlarged to the world's size."""

    model: SmallModel
    backbone: Backbone
    known: Choices = text_to_video.KNOWN

    def encoded(self, frames: NDArray[np.uint8]) -> Tensor:
        return self.model.to_latents(halved(frames))

    def to_clips(self, latents: Tensor) -> Tensor:
        clips = self.model.to_clips(latents)
        pictures = clips.flatten(0, 1).movedim(-1, 1)
        wide = functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", align_corners=False)
        return wide.movedim(1, -1).unflatten(0, clips.shape[:2])

    def noise(self, seeds: Iterable[int]) -> Tensor:
        return torch.stack([torch.randn(LATENTS, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


LATENTS = (4, text_to_video.CLIP_FRAMES, text_to_video.LATENT_SIDE, text_to_video.LATENT_SIDE)


def load_demo() -> Demo:
    model = load_base()
    return Demo(model, model.backbone())


def load_text_to_video() -> Small:
    model = load_small()
    return Small(model, model.backbone())


BASES: dict[str, Callable[[], Base]] = {"demo": load_demo, "text_to_video": load_text_to_video}
