"""Which files and folders are concepts and libraries; nothing of them is read."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import CCVDError, ConceptFileError, LibraryError
from .concept import check_name
from .whole_files import advice

SUFFIX = ".safetensors"


def concept_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """What a library's folder has for concept files, by name. Raises LibraryError when the folder cannot be read.

    Hidden files are the library's own or a file manager's. Whatever else bears a concept's name is listed, links that
    lead nowhere and pipes too: reading it tells what is wrong with it.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                    with suppress(FileNotFoundError):  # a file that was removed just now is no problem
                        status = file_status(entry.path)
                        if not stat.S_ISDIR(status.st_mode):
                            found.append((Path(entry.path), status))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LibraryError(f"Cannot read the concept library {folder}: {advice(error)}") from error
    return sorted(found, key=lambda item: item[0].name)


def library_names(root: Path) -> list[str]:
    """Names of the folders in `root` that can be libraries. Raises LibraryError when it cannot be read."""
    try:
        folders = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    except OSError as error:
        raise LibraryError(f"Cannot read the folder of the concept libraries {root}: {advice(error)}") from error
    return sorted(name for name in folders if is_name(name))


def is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except CCVDError:
        return False


def file_status(path: str) -> os.stat_result:
    """Of the file that a link leads to, or of the link itself if it leads nowhere or back to itself."""
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def file_name(path: Path) -> str:
    """The concept's name by its file. Raises ConceptFileError if it cannot be written in a prompt."""
    try:
        return check_name(path.name.removesuffix(SUFFIX))
    except CCVDError as error:
        raise ConceptFileError(f"The concept file {path} needs another name. {error} Rename the file.") from None


def taken(path: Path) -> LibraryError:
    with suppress(OSError):
        if not path.lstat().st_size:
            return LibraryError(
                f"The name of {path} is reserved: a concept is being saved under it, or saving it was cut short. "
                "Choose another name, delete the empty file, or wait for an hour: the name is then free."
            )
    return LibraryError(
        f"There is already a concept file {path}, and it is never overwritten. Choose another name, or delete the file "
        "to learn the concept again."
    )
