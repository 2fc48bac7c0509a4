"""Standing in for an attention's processor in diffusers, and stepping back."""

from __future__ import annotations

from typing import Any

from .base import TextAttention


class StandInProcessor:
    """Takes the place of one cross-attention's processor; `remove` puts back the one that was there before."""

    def __init__(self, module: Any, attention: TextAttention) -> None:
        self._module, self._attention, self._processor = module, attention, module.processor
        module.set_processor(self)

    def remove(self) -> None:
        if self._module.processor is self:
            self._module.set_processor(self._processor)
