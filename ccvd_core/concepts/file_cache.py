"""What was read from files, kept as long as each file stays the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import ConceptFileError

T = TypeVar("T")
Stamp = tuple[int, int, int]
"""Size, time of the last change, and the file's number."""
FAILURE_BYTES = 2000
"""What a kept message takes, about."""


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A file's contents, or why it cannot be used; `size` is what keeping it takes."""

    stamp: Stamp
    size: int
    value: T | None = None
    problem: str = ""


class FileCache(Generic[T]):
    """`read` of files, each read once until it changes: those that cannot be used too, for they may be the largest.

    At most `limit` bytes are kept. When they are full, other folders' files make room, and then new ones are not kept:
    whoever goes through a library that is too large would otherwise never find what was kept the last time. May be used
    from several threads; two may then read one file at once.
    """

    def __init__(self, read: Callable[[Path], T], size_of: Callable[[T], int], limit: int) -> None:
        self._read, self._size_of, self._limit = read, size_of, limit
        self._kept: dict[Path, Kept[T]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: Path, status: os.stat_result) -> T:
        """The contents of a file whose status is `status`. Raises ConceptFileError."""
        stamp = status.st_size, status.st_mtime_ns, status.st_ino
        kept = self._kept.get(path)
        if kept is None or kept.stamp != stamp:
            kept = self._read_anew(path, stamp)
            self._keep(path, kept)
        if kept.value is None:
            raise ConceptFileError(kept.problem)
        return kept.value

    def clear(self) -> None:
        with self._lock:
            self._kept, self._bytes = {}, 0

    def _read_anew(self, path: Path, stamp: Stamp) -> Kept[T]:
        try:
            value = self._read(path)
        except ConceptFileError as error:
            if isinstance(error.__cause__, OSError | MemoryError):  # tomorrow it may be there, or allowed
                raise
            return Kept(stamp, FAILURE_BYTES, problem=str(error))
        return Kept(stamp, self._size_of(value), value)

    def _keep(self, path: Path, kept: Kept[T]) -> None:
        with self._lock:
            self._drop(path)
            if self._bytes + kept.size > self._limit:
                for other in [other for other in self._kept if other.parent != path.parent]:
                    self._drop(other)
                    if self._bytes + kept.size <= self._limit:
                        break
            if self._bytes + kept.size <= self._limit:
                self._kept[path] = kept
                self._bytes += kept.size

    def _drop(self, path: Path) -> None:
        if path in self._kept:
            self._bytes -= self._kept.pop(path).size
