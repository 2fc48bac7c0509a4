"""Errors an artist may see. Every message says what was expected, what came, and what to do."""

from __future__ import annotations

import reprlib
from typing import Any

MAX_MESSAGE = 1000
"""Characters of a message: enough to say everything, too few for what a crafted file would put into it."""
KEPT_END = 380
"""Of a message that is too long: what to do stands at its end."""


class CCVDError(ValueError):
    """Base of all errors that the pack raises on purpose. Whatever stands in its message, it can be shown."""

    def __init__(self, message: str = "") -> None:
        super().__init__(showable(message))


class UnknownConceptError(CCVDError):
    """A prompt names a concept that the library does not have."""


class WrongBaseError(CCVDError):
    """A concept was learned on another base model than the one in use."""


class ConceptFileError(CCVDError):
    """A file is not a concept, or is damaged."""


class LoraFileError(CCVDError):
    """Another tool's LoRA file cannot become a concept, or a concept cannot be written as one."""


class LibraryError(CCVDError):
    """The library folder cannot be read or written, or a name is taken or not allowed."""


class MediaError(CCVDError):
    """Pictures or clips cannot be learned from: none, empty, not finite, too large."""


class LearningError(CCVDError):
    """Learning cannot start or cannot go on; the last good state is kept."""


def showable(text: str, most: int = MAX_MESSAGE) -> str:
    """A text of at most `most` characters, the middle left out, without the half characters no console can write."""
    if len(text) > most:
        text = f"{text[: most - KEPT_END - 5]} ... {text[-KEPT_END:]}"
    whole = text.encode("utf-8", "backslashreplace").decode()
    return whole if len(whole) <= most else whole[:most]


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write numbers of more than 4,300 digits.
        return repr(x) if x.bit_length() <= 128 else f"a number of about {int(x.bit_length() * 0.30103) + 1} digits"


SHORT = _Short()
SHORT.maxlevel, SHORT.maxother, SHORT.maxstring = 3, 60, 60


def shorten(value: Any, length: int = 60) -> str:
    """Something foreign for a message, as Python writes it, in little more than `length` characters."""
    if isinstance(value, str):
        return repr(value if len(value) <= length else value[: length - 3] + "...")
    text = SHORT.repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."
