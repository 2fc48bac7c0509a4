"""How clean latents become noise, and what a model predicts on the way: the method sees noise levels only.

Latents at a noise level are  x = a clean + level n  in a space where they move along a straight line while sampling:

    x(level') = clean + (level' / level) (x(level) - clean)

For rectified flow (Wan) the level is the time t and a = 1 - t. For a diffusion model (epsilon or v prediction) the
level is sigma = sqrt((1 - alpha_bar) / alpha_bar) and a = 1: k-diffusion's space, and ComfyUI's. At one x and level
every prediction is linear in `clean`, so that guidance and merging may work on predictions as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T", float, Tensor)


class NoisePath(ABC):
    """A way from clean latents to noise. A schedule's position runs from 1 (noise) to 0 (clean)."""

    @abstractmethod
    def level(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Noise level at positions in 0..1 of the training schedule."""

    @abstractmethod
    def position(self, level: float) -> float:
        """The training schedule's position (the training time) of a noise level: `level` the other way."""

    @abstractmethod
    def sampling_level(self, position: float) -> float:
        """Noise level at which sampling is when `position` of its steps are left."""

    @abstractmethod
    def start(self, noise: Tensor, level: Tensor) -> Tensor:
        """What sampling begins with at the first level."""

    @abstractmethod
    def mix(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Latents at a level, one per batch row or one for all."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, level: Float[Tensor, " batch"]) -> Tensor:
        """What the model should predict of `mix(clean, noise, level)`."""

    @abstractmethod
    def slope(self, latents: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """dx / dlevel on the straight line that a prediction means."""

    def clean(self, latents: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        """The clean latents that a prediction means."""
        return latents - per_row(level, latents) * self.slope(latents, prediction, level)

    @abstractmethod
    def towards(self, latents: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The prediction that means these clean latents: `clean` the other way."""

    def step(self, latents: Tensor, prediction: Tensor, level: Tensor, next_level: Tensor) -> Tensor:
        """Along the line to the next level: Euler's step, which is DDIM's."""
        return latents + (next_level - level) * self.slope(latents, prediction, level)

    def times(self, steps: int) -> Float[Tensor, " steps_plus_one"]:
        """Noise levels of so many steps, from noise to clean (0)."""
        return torch.tensor([self.sampling_level(float(p)) for p in torch.linspace(1, 0, steps + 1)])


@dataclass(frozen=True)
class FlowPath(NoisePath):
    """Rectified flow: x_t = (1 - t) x + t n, velocity n - x. Sampling is shifted towards noise by `shift`, as Wan's."""

    shift: float = 3.0

    def level(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return position

    def position(self, level: float) -> float:
        return level

    def sampling_level(self, position: float) -> float:
        return shifted(position, self.shift)

    def start(self, noise: Tensor, level: Tensor) -> Tensor:
        return noise

    def mix(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return torch.lerp(clean, noise, per_row(level, noise))

    def target(self, clean: Tensor, noise: Tensor, level: Float[Tensor, " batch"]) -> Tensor:
        return noise - clean

    def slope(self, latents: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return prediction

    def towards(self, latents: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        return (latents - clean) / per_row(level, latents)

    def times(self, steps: int) -> Float[Tensor, " steps_plus_one"]:
        return shifted(torch.linspace(1, 0, steps + 1), self.shift)


@dataclass(frozen=True)
class EpsilonPath(NoisePath):
    """A diffusion model that predicts the noise (DDPM). `sigmas` rise with the training steps: sqrt((1 - ab) / ab)."""

    sigmas: tuple[float, ...]

    def level(self, position: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.level_at(position * (len(self.sigmas) - 1))

    def level_at(self, step: Tensor) -> Tensor:
        """Noise level at a training step, between two steps by their logarithms."""
        logs = torch.tensor(self.sigmas, dtype=torch.float64).log().to(step.device)
        low = step.detach().double().clamp(0, len(logs) - 1).floor().long().clamp_max(len(logs) - 2)
        return torch.lerp(logs[low], logs[low + 1], step.double() - low).exp().to(step.dtype)

    def step_at(self, level: Tensor) -> Tensor:
        """The training step (a fraction) of a noise level: `level_at` the other way."""
        logs = torch.tensor(self.sigmas, dtype=torch.float64).log().to(level.device)
        wanted = level.double().clamp_min(self.sigmas[0]).log().clamp(logs[0], logs[-1])
        low = (torch.searchsorted(logs, wanted, right=True) - 1).clamp(0, len(logs) - 2)
        return (low + (wanted - logs[low]) / (logs[low + 1] - logs[low])).to(level.dtype)

    def position(self, level: float) -> float:
        return float(self.step_at(torch.tensor([level], dtype=torch.float64))) / (len(self.sigmas) - 1)

    def sampling_level(self, position: float) -> float:
        return 0.0 if position <= 0 else float(self.level(torch.tensor([position], dtype=torch.float64)))

    def start(self, noise: Tensor, level: Tensor) -> Tensor:
        return noise * (1 + per_row(level, noise) ** 2).sqrt()

    def mix(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return clean + per_row(level, noise) * noise

    def target(self, clean: Tensor, noise: Tensor, level: Float[Tensor, " batch"]) -> Tensor:
        return noise

    def slope(self, latents: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        return prediction

    def towards(self, latents: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        return self.target(clean, (latents - clean) / per_row(level, latents), level)


@dataclass(frozen=True)
class VelocityPath(EpsilonPath):
    """A diffusion model that predicts v = a n - s x with a = sqrt(ab), s = sqrt(1 - ab) (Salimans and Ho, 2022)."""

    def target(self, clean: Tensor, noise: Tensor, level: Float[Tensor, " batch"]) -> Tensor:
        sigma = per_row(level, noise)
        return (noise - sigma * clean) / (1 + sigma**2).sqrt()

    def slope(self, latents: Tensor, prediction: Tensor, level: Tensor) -> Tensor:
        # clean = a^2 x - sigma a v with a^2 = 1 / (1 + sigma^2), put into (x - clean) / sigma.
        sigma = per_row(level, latents)
        a = (1 + sigma**2).rsqrt()
        return a**2 * sigma * latents + a * prediction


def shifted(t: T, shift: float) -> T:
    """s t / (1 + (s - 1) t)."""
    return shift * t / (1 + (shift - 1) * t)


def per_row(level: Tensor, like: Tensor) -> Tensor:
    """A level, or one per batch row, to multiply with `like`."""
    return level.to(like).view(-1, *[1] * (like.ndim - 1)) if level.ndim else level.to(like)
