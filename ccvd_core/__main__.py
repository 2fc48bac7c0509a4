"""`python -m ccvd_core`."""

from __future__ import annotations

import sys

from .headless.commands import main

if __name__ == "__main__":
    sys.exit(main())
