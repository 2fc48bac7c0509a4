"""A concept library: a folder of concept files. The learning order is in the files themselves (DESIGN 4)."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .concept import Concept, check_name
from .concept_file import load_concept, load_outline, save_concept
from .concept_header import SUFFIX, ConceptHeader, read_header, unreadable
from .errors import CCVDError, ConceptFileError, LibraryError, UnknownConceptError
from .whole_files import advice, write_whole


@dataclass(frozen=True)
class ConceptLibrary:
    """The concepts in one folder, which need not exist until the first is added.

    A concept is named by its file: a file that an artist renames becomes a concept of the new name. Reads see only
    whole files and are never held up; any number of processes may add at the same time.
    """

    folder: Path

    def headers(self) -> list[ConceptHeader]:
        """Usable concepts in learning order, then by name. Raises LibraryError when the folder cannot be read."""
        return self._scan()[0]

    def problems(self) -> list[str]:
        """A message for every file that is not usable. Raises LibraryError when the folder cannot be read."""
        return self._scan()[1]

    def names(self) -> list[str]:
        """Names of the usable concepts in learning order."""
        return [header.name for header in self.headers()]

    def load(self, name: str) -> Concept:
        """Read one concept. Raises UnknownConceptError, or ConceptFileError when its file is damaged."""
        concept = load_concept(self._existing(name))
        return concept if concept.name == name else replace(concept, name=name)

    def outline(self, name: str) -> Concept:
        """One concept without its adapters, read once as long as its file stays the same. Raises as `load` does."""
        path = self._existing(name)
        try:
            status = file_status(str(path))
        except OSError as error:
            raise unreadable(path, error) from error
        outline = cached_outline(path, status.st_size, status.st_mtime_ns, status.st_ino)
        return outline if outline.name == name else replace(outline, name=name)

    def check_can_add(self, name: str) -> None:
        """Raise LibraryError if `add` would fail now: to be asked before an hour of learning, not after."""
        path = self._path(check_name(name))
        self._make_folder()
        if os.path.lexists(path):
            raise taken(path)
        probe = path.with_name(f".{name}.check")
        try:
            write_whole(probe, b"")
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error

    def add(self, concept: Concept) -> Concept:
        """Save a concept as the last one learned, and return it with its order.

        Raises LibraryError when the name is taken or the folder cannot be written; nothing is then left behind.
        """
        path = self._path(concept.name)
        self._make_folder()
        if os.path.lexists(path):
            raise taken(path)
        with self._claimed_order() as order:
            ordered = replace(concept, order=order)
            try:
                save_concept(ordered, path, replace=False)
            except FileExistsError:
                raise taken(path) from None
        return ordered

    def remove(self, name: str) -> None:
        """Delete a concept's file, also a damaged one. Raises UnknownConceptError or LibraryError."""
        path = self._existing(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LibraryError(f"Cannot delete {path}: {advice(error)}") from error

    def library_signature(self) -> str:
        """Changes when a concept file is added, removed or changed (by name, size and time)."""
        files = [(path.name, status.st_size, status.st_mtime_ns) for path, status in self._files()]
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"

    def _existing(self, name: str) -> Path:
        """The file of a concept; never one outside the folder, whatever the name."""
        try:
            path = self._path(check_name(name))
        except CCVDError:
            raise self._unknown(name) from None
        if not os.path.lexists(path):
            raise self._unknown(name)
        return path

    def _unknown(self, name: str) -> UnknownConceptError:
        have = ", ".join(f"<{known}>" for known in self.names()) or "none yet: learn one with Learn Concept"
        return UnknownConceptError(
            f"The concept library {self.folder} has no <{name}>. Known concepts: {have}. Use one of these or learn it."
        )

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        """Concept files by name. Hidden files are the library's own or a file manager's."""
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and not entry.is_dir():
                        # A file that was removed just now is no problem; a broken link is one to show.
                        with suppress(FileNotFoundError):
                            found.append((Path(entry.path), file_status(entry.path)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise LibraryError(f"Cannot read the concept library {self.folder}: {advice(error)}") from error
        return sorted(found, key=lambda item: item[0].name)

    def _scan(self) -> tuple[list[ConceptHeader], list[str]]:
        headers, problems = [], []
        for path, status in self._files():
            try:
                header = cached_header(path, status.st_size, status.st_mtime_ns, status.st_ino)
                headers.append(replace(header, name=file_name(path)))
            except ConceptFileError as error:
                if os.path.lexists(path):
                    problems.append(str(error))
        return sorted(headers, key=lambda header: (header.order, header.name)), problems

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error

    def _not_writable(self, error: OSError) -> LibraryError:
        return LibraryError(f"Cannot write to the concept library {self.folder}: {advice(error)}")

    # Why claims and not a lock: whoever dies with a lock stops everyone else, and a stale lock is hard to break without
    # breaking a fresh one. An order is claimed by creating its claim file exclusively, which every system does
    # atomically; then the files are read again, in case another process published that order and let go of its claim in
    # between. A process that dies leaves its claim: a gap in the numbers, which means nothing. The concept's own file
    # is published by a hard link, which fails when the name is taken (`concept_file.publish`).
    @contextmanager
    def _claimed_order(self) -> Iterator[int]:
        """An order that no other concept has or will get; claimed until the block ends."""
        orders = {header.order for header in self.headers()}
        for order in itertools.count(max(orders, default=0) + 1):
            claim = self.folder / f".order-{order}.claim"
            try:
                open(claim, "xb").close()
            except FileExistsError:
                continue
            except OSError as error:
                raise self._not_writable(error) from error
            try:
                if order not in {header.order for header in self.headers()}:
                    yield order
                    return
            finally:
                with suppress(OSError):
                    claim.unlink()


@lru_cache(maxsize=4096)
def cached_header(path: Path, size: int, modified: int, file_id: int) -> ConceptHeader:
    """A file's header, read once as long as the file stays the same: a library is listed often and changed rarely."""
    return read_header(path)


@lru_cache(maxsize=256)
def cached_outline(path: Path, size: int, modified: int, file_id: int) -> Concept:
    """A concept's outline, a few megabytes at most; a prompt is changed often and the library rarely."""
    return load_outline(path)


def file_status(path: str) -> os.stat_result:
    """Of the file that a link leads to, or of the link itself if it leads nowhere."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return os.lstat(path)


def file_name(path: Path) -> str:
    """The concept's name by its file. Raises ConceptFileError if it cannot be written in a prompt."""
    try:
        return check_name(path.name.removesuffix(SUFFIX))
    except CCVDError as error:
        raise ConceptFileError(f"The concept file {path} needs another name. {error} Rename the file.") from None


def taken(path: Path) -> LibraryError:
    return LibraryError(
        f"There is already a concept file {path}, and it is never overwritten. Choose another name, or delete the file "
        "to learn the concept again."
    )
