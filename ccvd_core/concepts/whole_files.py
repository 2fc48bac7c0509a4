"""Files that are either all there or not there, and what an operating system's error means to an artist."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ADVICE: Sequence[tuple[tuple[int, ...], str]] = (
    ((errno.ENOSPC, errno.EDQUOT), "the disk is full. Free some space and try again."),
    ((errno.EACCES, errno.EPERM, errno.EROFS), "access was denied. Check who may write there, or use another folder."),
    ((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder is expected. Move it or use another folder."),
    ((errno.ENOENT,), "it is not there. Check the folder and the name."),
    ((errno.ELOOP,), "it is a link that leads back to itself. Delete the link."),
    ((errno.EISDIR,), "it is a folder. Move it or use another name."),
)

ZEROS = bytes(1024**2)


def advice(error: OSError) -> str:
    """What an operating system's error means to an artist."""
    for numbers, text in ADVICE:
        if error.errno in numbers:
            return text
    return f"{error.strerror or error}. Check the disk and try again."


def write_whole(path: Path, data: bytes, replace: bool = True) -> None:
    """Write a file that is either all there or not there: temporary file in the same folder, fsync, rename.

    Raises OSError, FileExistsError among them when the file exists and `replace` is off; no temporary file is left.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken (FileExistsError).

    A hard link does both at once, on every system. Disks without hard links (exFAT, some network drives) reserve the
    name with an empty file first, which the finished one replaces.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        open(path, "xb").close()
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink()
            raise


class ReservedSpace:
    """Space on a disk that is taken before it is needed, by a file of that size that `release` deletes.

    Raises OSError when the disk has not so much; nothing is left behind then.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        try:
            with open(path, "wb") as file:
                fill(file.fileno(), size)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the space free for what it was kept for; more than once does no harm."""
        with suppress(OSError):
            self._path.unlink()


def fill(descriptor: int, size: int) -> None:
    """Give an empty file `size` bytes that are there on the disk, and not only in its length. Raises OSError."""
    allocate = getattr(os, "posix_fallocate", None)
    try:
        if allocate is None:
            raise OSError(errno.ENOSYS, "no way to allocate")
        allocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        for start in range(0, size, len(ZEROS)):
            os.write(descriptor, ZEROS[: size - start])
    os.fsync(descriptor)
