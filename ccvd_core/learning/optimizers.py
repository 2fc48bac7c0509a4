"""Optimizers by the names that trainers give them; a package that one comes from is asked for when it is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import LearningError

Groups = Sequence[dict[str, Any]]
"""Parameters with their own learning rate, and their own weight decay where that is another."""


@dataclass(frozen=True)
class OptimizerRow:
    """How one is made, and the package that it comes from, if not from torch.

    One that finds its rate itself (`own_rate`) is given the share of the schedule alone.
    """

    make: Callable[[Groups, float], torch.optim.Optimizer]
    package: str = ""
    own_rate: bool = False


def from_package(package: str, name: str, **settings: Any) -> Callable[[Groups, float], torch.optim.Optimizer]:
    """An optimizer class of a package that is not one of ours."""

    def make(groups: Groups, weight_decay: float) -> torch.optim.Optimizer:
        module = importlib.import_module(package)
        for part in name.split("."):
            module = getattr(module, part)
        return module(list(groups), weight_decay=weight_decay, **settings)  # type: ignore[operator]

    return make


OPTIMIZERS: Mapping[str, OptimizerRow] = {
    "adamw": OptimizerRow(lambda groups, decay: torch.optim.AdamW(list(groups), betas=(0.9, 0.99), weight_decay=decay)),
    "adamw8bit": OptimizerRow(from_package("bitsandbytes", "optim.AdamW8bit", betas=(0.9, 0.99)), "bitsandbytes"),
    "adafactor": OptimizerRow(lambda groups, decay: torch.optim.Adafactor(list(groups), weight_decay=decay)),
    "prodigy": OptimizerRow(
        from_package("prodigyopt", "Prodigy", use_bias_correction=True, safeguard_warmup=True),
        "prodigyopt",
        own_rate=True,
    ),
}
"""By name, the usual one first."""


def new_optimizer(name: str, groups: Groups, weight_decay: float) -> torch.optim.Optimizer:
    """Raises LearningError for one whose package is not installed."""
    row = OPTIMIZERS[name]
    if row.own_rate:
        groups = [{**group, "lr": 1.0} for group in groups]
    try:
        return row.make(groups, weight_decay)
    except ImportError as error:
        raise LearningError(
            f"The optimizer {name!r} needs the package {row.package}, which is not installed ({error}). Install it in "
            f"ComfyUI's Python (pip install {row.package}), or choose adamw."
        ) from error
