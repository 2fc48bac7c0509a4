"""The pack's answer to what this processor computes fast, for scripts that run without an installed pack."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from ccvd_core.number_types import fast_autocast, fast_dtype, number_type

__all__ = ["fast_autocast", "fast_dtype", "number_type"]
