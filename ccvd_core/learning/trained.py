"""The numbers that a lesson learns: adapters and concept tokens, with their optimizer and running mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..concepts.concept import LowRank
from ..errors import LearningError
from .learner_state import pack_state, unpack_state
from .optimizers import OPTIMIZERS, new_optimizer
from .step import LearningSettings, rate_share


@dataclass(frozen=True)
class Learned:
    """Adapters and tokens as they are at one step."""

    adapters: Mapping[str, LowRank]
    tokens: Float[Tensor, "layers words width"]

    def copied(self) -> Learned:
        """A copy of its own, in fp32 on the CPU."""

        def copy(value: Tensor) -> Tensor:
            return value.detach().float().cpu().clone()

        adapters = {site: LowRank(copy(lora.a), copy(lora.b)) for site, lora in self.adapters.items()}
        return Learned(adapters, copy(self.tokens))


class Trained:
    """Adapters and tokens while they are learned."""

    def __init__(self, start: Learned, settings: LearningSettings, device: torch.device) -> None:
        self._settings = settings
        self.adapters = {
            site: (nn.Parameter(lora.a.to(device)), nn.Parameter(lora.b.to(device)))
            for site, lora in start.adapters.items()
        }
        self.tokens = nn.Parameter(start.tokens.to(device), requires_grad=settings.tokens)
        groups: list[dict[str, Any]] = [{"params": self.parameters()[:-1], "lr": settings.lr}]
        if settings.tokens:
            groups.append({"params": [self.tokens], "lr": settings.token_lr, "weight_decay": 0.0})
        self.optimizer = new_optimizer(settings.optimizer, groups, settings.weight_decay)
        self._means = [value.detach().clone() for value in self.parameters()] if settings.ema else []

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every Linear, and the tokens last."""
        return [p for ab in self.adapters.values() for p in ab] + [self.tokens]

    def gradients(self) -> list[Tensor]:
        """Those that are there."""
        return [parameter.grad for parameter in self.parameters() if parameter.grad is not None]

    def live(self) -> Learned:
        """As they are being learned, with their gradients."""
        return self.named(self.parameters())

    def current(self) -> list[Tensor]:
        """The values that would become the concept now: of the running mean, where there is one."""
        return [value.detach() for value in self._means or self.parameters()]

    def named(self, values: Sequence[Tensor]) -> Learned:
        """Such a list of values under the names of their Linears."""
        *weights, tokens = values
        pairs = zip(weights[::2], weights[1::2], strict=True)
        return Learned({site: LowRank(*pair) for site, pair in zip(self.adapters, pairs, strict=True)}, tokens)

    def update(self, total: Tensor, done: int) -> None:
        """One optimizer step after `done`, from the gradients that are there.

        Raises LearningError, with the parameters as they were, when the loss `total` or a gradient is no number.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        if not (torch.isfinite(total) and torch.isfinite(norm)):
            self.optimizer.zero_grad()
            became = "too steep to follow" if torch.isfinite(total) else total.item()
            raise LearningError(
                f"The loss became {became} at step {done + 1}. Lower the learning rate (a third of it is a good "
                "next try), or look for damaged pictures."
            )
        share = rate_share(done, self._settings.steps)
        own_rate = OPTIMIZERS[self._settings.optimizer].own_rate
        rates = (1.0, 1.0) if own_rate else (self._settings.lr, self._settings.token_lr)
        for group, lr in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = lr * share
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self._means:
            # Early on the mean of few steps: a decay of 0.99 would remember the start for hundreds.
            kept = min(self._settings.ema, (done + 1) / (done + 10))
            torch._foreach_lerp_(self._means, [value.detach() for value in self.parameters()], 1 - kept)

    def state(self, done: int, others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Everything needed to go on, as plain tensors; `others` are what else belongs to the lesson, by name."""
        return pack_state(done, self.tokens, self.adapters, self.optimizer, self._beside(others))

    def load(self, state: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> int:
        """Take up a state, into `others` too; the steps done. Raises LearningError if it does not fit."""
        return unpack_state(state, self.tokens, self.adapters, self.optimizer, self._beside(others))

    def _beside(self, others: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**{f"mean.{index}": value for index, value in enumerate(self._means)}, **others}
