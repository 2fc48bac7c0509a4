"""The pack as ComfyUI loads it, for tests that need one of its nodes' modules."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

from base import WEIGHTS


def from_pack(name: str) -> Any:
    """A module of the pack, under a parent package as ComfyUI loads it."""
    package = types.ModuleType("ccvd_pack")
    package.__path__ = [str(Path(WEIGHTS).parents[1])]
    sys.modules.setdefault("ccvd_pack", package)
    return importlib.import_module(f"ccvd_pack.{name}")
