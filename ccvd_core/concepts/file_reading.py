"""Reading a concept file from the disk: sizes are looked at first, and nothing is waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ConceptFileError
from .file_header import DAMAGED, LENGTH_BYTES, NOT_A_CONCEPT, FileHeader, damaged, parse_header, unreadable

MAX_HEADER_BYTES = 32 * 1024**2
"""Ten class words on a base model of 14 billion parameters take a third of it."""
MAX_FILE_BYTES = 8 * 1024**3
"""A motion of rank 512 on a base model of 14 billion parameters takes 6.5 GB."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A file to read from and its bytes. Raises ConceptFileError unless it is an ordinary file of a size to expect.

    Never waits: a pipe that nobody writes to would otherwise keep the reader for ever.
    """
    try:
        with open(path, "rb", opener=without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConceptFileError(
                    f"The concept file {path} cannot be read: expected an ordinary file; this is a pipe or a device. "
                    "Move or delete it."
                )
            if status.st_size > MAX_FILE_BYTES:
                raise ConceptFileError(
                    f"{path} is not a concept: expected at most {MAX_FILE_BYTES / 1024**3:.0f} GB; got "
                    f"{status.st_size / 1024**3:.0f} GB. {NOT_A_CONCEPT}"
                )
            yield file, status.st_size
    except OSError as error:
        raise unreadable(path, error) from error


def without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_file_header(path: Path) -> FileHeader:
    """A file's header, without a byte of its tensors. Raises ConceptFileError."""
    with opened(path) as (file, size):
        return header_of(path, file, size)


def read_whole(path: Path, check: Callable[[FileHeader], object]) -> tuple[FileHeader, bytes]:
    """A file's header, and all of its bytes once `check` has found nothing wrong with it. Raises ConceptFileError."""
    with opened(path) as (file, size):
        header = header_of(path, file, size)
        check(header)
        file.seek(0)
        data = file.read(size)
    if len(data) != size:
        raise damaged(path, f"expected {size} bytes; got {len(data)}. It was cut off")
    return header, data


def header_of(path: Path, file: BinaryIO, size: int) -> FileHeader:
    start = file.read(LENGTH_BYTES)
    return parse_header(path, start + file.read(header_end(path, start, size) - LENGTH_BYTES), size)


def header_end(path: Path, start: bytes, size: int) -> int:
    """Where the tensors' bytes begin, from the file's first eight."""
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= MAX_HEADER_BYTES:
        raise ConceptFileError(
            f"{path} is not a concept: expected a safetensors file that Learn Concept wrote; got {size} bytes of "
            f"something else, or a file that was cut off. {DAMAGED}"
        )
    if LENGTH_BYTES + length > size:
        raise damaged(path, f"expected at least {LENGTH_BYTES + length} bytes; got {size}. It was cut off")
    return LENGTH_BYTES + length
