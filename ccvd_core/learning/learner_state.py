"""A learner's state as plain tensors, which safetensors can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import LearningError

OPTIMIZER = "optimizer."


def pack_state(
    done: int,
    tokens: Tensor,
    adapters: Mapping[str, tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Tensor]:
    """Everything needed to go on: steps done, parameters, and what the optimizer remembers of them."""
    state = {"done": torch.tensor(done), "tokens": tokens.detach()}
    for site, (a, b) in adapters.items():
        state[f"{site}.a"], state[f"{site}.b"] = a.detach(), b.detach()
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            state[f"{OPTIMIZER}{index}.{key}"] = torch.as_tensor(value)
    return {key: value.contiguous() for key, value in state.items()}


@torch.no_grad()
def unpack_state(
    state: Mapping[str, Tensor],
    tokens: Tensor,
    adapters: Mapping[str, tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Put a packed state into these parameters and this optimizer; returns the steps done.

    Raises LearningError, before anything is changed, for the state of other parameters.
    """
    mine, theirs = shapes(pack_state(0, tokens, adapters, optimizer)), shapes(state)
    if mine != theirs:
        differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        raise LearningError(f"The saved progress does not fit these settings ({', '.join(differ[:3])}); start afresh.")
    remembered = optimizer.state_dict()
    remembered["state"] = {}
    for key, value in state.items():
        if key.startswith(OPTIMIZER):
            _, index, name = key.split(".")
            remembered["state"].setdefault(int(index), {})[name] = value
    for site, (a, b) in adapters.items():
        a.copy_(state[f"{site}.a"])
        b.copy_(state[f"{site}.b"])
    tokens.copy_(state["tokens"])
    optimizer.load_state_dict(remembered)
    return int(state["done"])


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Of all but the optimizer's part, which is empty before the first step."""
    return {key: value.shape for key, value in state.items() if not key.startswith(OPTIMIZER)}
