"""Names in messages: which there are, and which one was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

MOST = 20
"""Names that a message lists."""
LONGEST = 64
"""Characters of a word that may be a slip of the keyboard."""


def closest(word: str, known: Sequence[str]) -> str | None:
    """The known name that `word` is a misspelling of, if there is one."""
    if len(word) > LONGEST:
        return None
    found = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Sequence[str], form: str = "<{}>") -> str:
    """`Did you mean <rex>? `, or nothing."""
    name = closest(word, known)
    return "" if name is None else f"Did you mean {form.format(name)}? "


def listed(names: Sequence[str], form: str = "<{}>") -> str:
    """`<kit>, <rex> and 3 more`."""
    shown = ", ".join(form.format(name) for name in names[:MOST])
    return shown if len(names) <= MOST else f"{shown} and {len(names) - MOST} more"
