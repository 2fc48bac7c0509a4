"""Which number type a device computes fast in.

bfloat16 halves the work where the processor has instructions for it. Where it has none, a matrix product in bfloat16 is
emulated: on a processor with AVX2 only it takes eighty times as long as in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

LOG = logging.getLogger(__name__)

FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
"""What torch calls the instructions that multiply bfloat16: Intel's and AMD's, Intel's matrix unit, ARM's.

AVX-512 alone is not enough, though oneDNN then says that it supports bfloat16: it widens every number first.
"""


def fast_dtype(device: str | torch.device = "cpu") -> torch.dtype:
    """bfloat16 where this device multiplies it in hardware, else float32. What was chosen is logged once."""
    device = torch.device(device)
    if device.type == "cpu":
        fast = has_fast_bfloat16(processor(), onednn=torch.backends.mkldnn.is_available())
    else:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    chosen = torch.bfloat16 if fast else torch.float32
    _say_once(device.type, chosen)
    return chosen


def fast_autocast(device: str | torch.device = "cpu", cache_enabled: bool = True) -> AbstractContextManager[object]:
    """Autocast to `fast_dtype`; nothing where that is float32.

    `cache_enabled` False is for training: autocast's cache would go on using the weights of the first step.
    """
    dtype = fast_dtype(device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype, cache_enabled=cache_enabled)


def number_type(device: str | torch.device = "cpu") -> str:
    """`fast_dtype` as results files name it: `bfloat16` or `float32`."""
    return str(fast_dtype(device)).removeprefix("torch.")


def processor() -> Mapping[str, Any]:
    """What torch knows of this processor's instructions: name -> whether it has them. An older torch knows less."""
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return {"avx512_bf16": bool(asked and asked())}


def has_fast_bfloat16(capabilities: Mapping[str, Any], onednn: bool) -> bool:
    """Whether a processor with these capabilities multiplies bfloat16 in hardware, given the library that does it."""
    return onednn and any(capabilities.get(name, False) for name in FAST_BFLOAT16)


@cache
def _say_once(kind: str, dtype: torch.dtype) -> None:
    LOG.info("Computing in %s, which is what this %s computes fast.", str(dtype).removeprefix("torch."), kind)
