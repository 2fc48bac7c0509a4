"""Errors an artist may see. Every message says what was expected, what came, and what to do."""

from __future__ import annotations


class CCVDError(ValueError):
    """Base of all errors that the pack raises on purpose."""


class UnknownConceptError(CCVDError):
    """A prompt names a concept that the library does not have."""


class WrongBaseError(CCVDError):
    """A concept was learned on another base model than the one in use."""


class ConceptFileError(CCVDError):
    """A file is not a concept, or is damaged."""


class LibraryError(CCVDError):
    """The library folder cannot be read or written, or a name is taken or not allowed."""


class MediaError(CCVDError):
    """Pictures or clips cannot be learned from: none, empty, not finite, too large."""


class LearningError(CCVDError):
    """Learning cannot start or cannot go on; the last good state is kept."""
