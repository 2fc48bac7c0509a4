"""What a process that was killed leaves in a library's folder, swept away once it is surely nobody's any more."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOUR, DAY = 3600.0, 86400.0
PROGRESS_FOLDER = ".progress"


@dataclass(frozen=True)
class Leftover:
    """Files of one kind, by their name: how old (seconds) one is when nobody can be using it any more."""

    name: re.Pattern[str]
    age: float
    empty: bool = False
    """Only if there is nothing in it."""

    def is_one(self, name: str, status: os.stat_result, now: float) -> bool:
        old = now - status.st_mtime > self.age
        return bool(old and stat.S_ISREG(status.st_mode) and not (self.empty and status.st_size)) and bool(
            self.name.fullmatch(name)
        )


# Whoever lives keeps such a file for seconds; the hours are for computers that were put to sleep.
IN_LIBRARY = (
    Leftover(re.compile(r"\..+\.[0-9a-f]{16}\.tmp"), DAY),
    Leftover(re.compile(r"\.[^.]+\.check"), DAY),
    Leftover(re.compile(r"\.order-[0-9]+\.claim"), DAY),
    # A name that was reserved on a disk without hard links (`whole_files.publish`).
    Leftover(re.compile(r"[^.].*\.safetensors"), HOUR, empty=True),
)
IN_PROGRESS = (
    Leftover(re.compile(r".+\.(partial|tmp)"), DAY),
    # Work of an artist, who may come back to it after the holidays.
    Leftover(re.compile(r".+"), 30 * DAY),
)


def sweep(folder: Path, now: float) -> list[Path]:
    """Delete a library's leftovers and say which. What cannot be read or deleted stays; nothing is raised.

    `now` is the time of the disk that the library is on, which another computer may set: a new file's time.
    """
    swept = []
    for inside, kinds in ((folder, IN_LIBRARY), (folder / PROGRESS_FOLDER, IN_PROGRESS)):
        for path, status in files_in(inside):
            if any(kind.is_one(path.name, status, now) for kind in kinds) and delete_if_same(path, status):
                swept.append(path)
    return swept


def files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Entries of a folder that is no link, with their own status."""
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(folder).st_mode):
            for name in os.listdir(folder):
                with suppress(OSError):
                    yield folder / name, os.lstat(folder / name)


def delete_if_same(path: Path, seen: os.stat_result) -> bool:
    """Delete the file that was seen, and no other.

    Between the look and the deletion another process may have swept it and a third made a new file of that name, a
    claim for example. The file is first moved aside, which only one process can do, and put back if it is not the same.
    """
    aside = path.with_name(f".{secrets.token_hex(4)}.{secrets.token_hex(8)}.tmp")
    try:
        os.rename(path, aside)
    except OSError:
        return False
    with suppress(OSError):
        found = os.lstat(aside)
        if (found.st_ino, found.st_mtime_ns, found.st_size) == (seen.st_ino, seen.st_mtime_ns, seen.st_size):
            os.unlink(aside)
            return True
        put_back(aside, path)
    return False


def put_back(aside: Path, path: Path) -> None:
    try:
        os.link(aside, path)
        os.unlink(aside)
    except OSError:
        if not os.path.lexists(path):
            os.rename(aside, path)
