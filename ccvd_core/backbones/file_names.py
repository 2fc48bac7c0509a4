"""What other tools' files call the Linears of a model, by the architecture that a concept was learned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..concepts.concept import BaseFingerprint
from ..errors import CCVDError, shorten
from .unet3d import unet_module
from .wan_sites import diffusers_name

IN_DIFFUSERS: Mapping[str, Callable[[str], str]] = {"wan": diffusers_name, "unet3d": unet_module}
"""By the first word of the architecture: canonical id -> name."""


def diffusers_names(base: BaseFingerprint) -> Callable[[str], str]:
    """From the canonical id of a Linear to its name in diffusers. Raises CCVDError for an architecture without."""
    family = base.architecture.split("-")[0]
    if family not in IN_DIFFUSERS:
        raise CCVDError(
            f"A concept of a model of the kind {shorten(family)} cannot be written for diffusers: expected one of "
            f"{', '.join(IN_DIFFUSERS)}. Write it as a LoRA file instead."
        )
    return IN_DIFFUSERS[family]
