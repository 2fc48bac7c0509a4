"""Concepts that this process put into a library: a file that is gone since must not be hidden by a cached result."""

from __future__ import annotations

import time
from typing import Any

from ...ccvd_core.learning.versions import stem
from .libraries import open_library, written_name

MADE_HERE: set[tuple[str, str]] = set()
"""(library, name) of what was learned, imported or found there."""


def vanished(library: Any, name: Any) -> str:
    """A text that never comes twice if a concept that was made here, or a version of it, is no longer in its library;
    else empty.

    Before execution the values may come singly or in sequences; a linked one is not known yet, and None.
    """
    shelf, text = (value if isinstance(value, str) or not value else value[0] for value in (library, name))
    concept = written_name(text or "")
    made = {name for made_in, name in MADE_HERE if made_in == shelf and stem(name) == stem(concept)}
    if made and made - set(open_library(shelf).names()):
        return f"gone {time.time()}"
    return ""
