"""A learner's state as plain tensors, which safetensors can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import LearningError

OPTIMIZER, GROUP = "optimizer.", "group"


def pack_state(
    done: int,
    tokens: Tensor,
    adapters: Mapping[str, tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    others: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Everything needed to go on: steps done, parameters, what the optimizer remembers, and `others` by their names."""
    state = {"done": torch.tensor(done), "tokens": tokens.detach()}
    for site, (a, b) in adapters.items():
        state[f"{site}.a"], state[f"{site}.b"] = a.detach(), b.detach()
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            state[f"{OPTIMIZER}{index}.{key}"] = torch.as_tensor(value)
    for index, group in enumerate(optimizer.state_dict()["param_groups"]):
        # What an optimizer that finds its own rate has found lies beside its settings.
        for key, value in group.items():
            if isinstance(value, float) and key != "lr":
                state[f"{OPTIMIZER}{GROUP}{index}.{key}"] = torch.tensor(value, dtype=torch.float64)
    state |= {key: value.detach() for key, value in (others or {}).items()}
    return {key: value.contiguous() for key, value in state.items()}


@torch.no_grad()
def unpack_state(
    state: Mapping[str, Tensor],
    tokens: Tensor,
    adapters: Mapping[str, tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    others: Mapping[str, Tensor] | None = None,
) -> int:
    """Put a packed state into these parameters, this optimizer and `others`; returns the steps done.

    Raises LearningError, before anything is changed, for the state of other parameters.
    """
    mine, theirs = shapes(pack_state(0, tokens, adapters, optimizer, others)), shapes(state)
    if mine != theirs:
        differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        raise LearningError(f"The saved progress does not fit these settings ({', '.join(differ[:3])}); start afresh.")
    remembered = optimizer.state_dict()
    remembered["state"] = {}
    for key, value in state.items():
        if key.startswith(OPTIMIZER):
            _, index, name = key.split(".")
            if index.startswith(GROUP):
                remembered["param_groups"][int(index.removeprefix(GROUP))][name] = float(value)
            else:
                remembered["state"].setdefault(int(index), {})[name] = value
    for site, (a, b) in adapters.items():
        a.copy_(state[f"{site}.a"])
        b.copy_(state[f"{site}.b"])
    tokens.copy_(state["tokens"])
    for key, value in (others or {}).items():
        value.copy_(state[key])
    optimizer.load_state_dict(remembered)
    return int(state["done"])


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Of all but the optimizer's part, which is empty before the first step."""
    return {key: value.shape for key, value in state.items() if not key.startswith(OPTIMIZER)}
