"""A concept library: a folder of concept files. The learning order is in the files themselves (DESIGN 4)."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import CCVDError, ConceptFileError, LibraryError, UnknownConceptError, shorten
from .concept import Concept, check_name
from .file import load_concept, load_outline, save_concept
from .file_cache import FileCache
from .file_header import unreadable
from .header import ConceptHeader, read_header
from .leftovers import sweep
from .library_files import SUFFIX, concept_files, file_name, file_status, taken
from .suggestions import did_you_mean, listed
from .whole_files import advice, write_whole

KEPT_HEADERS, KEPT_OUTLINES = 256 * 1024**2, 1024**3
"""Bytes. Outlines on a base model of 1.3 billion parameters take 1.5 MB, and a prompt in which all concepts take part
reads all of them."""


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
        return [problem for _, problem in self.broken()]

    def broken(self) -> list[tuple[Path, str]]:
        """The files that are not usable, each with its message. Raises LibraryError when the folder cannot be read."""
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
        outline = OUTLINES.get(path, status)
        return outline if outline.name == name else replace(outline, name=name)

    def load_usable(self, names: Iterable[str], needed: Container[str] = ()) -> tuple[list[Concept], dict[str, str]]:
        """(the concepts of these names, why others of them were left out): damage stops only who needs that concept.

        Raises as `load` does for those that are `needed`.
        """
        return usable(self.load, names, needed)

    def usable_outlines(
        self, names: Iterable[str], needed: Container[str] = ()
    ) -> tuple[list[Concept], dict[str, str]]:
        """`load_usable` of outlines."""
        return usable(self.outline, names, needed)

    def check_can_add(self, name: str) -> None:
        """Raise LibraryError if `add` would fail now: to be asked before an hour of learning, not after."""
        path = self._path(check_name(name))
        self._make_folder()
        self._sweep(path.with_name(f".{name}.check"))
        if os.path.lexists(path):
            raise taken(path)

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
        files = [(path.name, status.st_size, status.st_mtime_ns) for path, status in concept_files(self.folder)]
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
        known = self.names()
        return UnknownConceptError(
            f"The concept library {self.folder} has no <{shorten(name)[1:-1]}>. {did_you_mean(name, known)}Known "
            f"concepts: {listed(known) or 'none yet: learn one with Learn Concept'}. Use one of these or learn it."
        )

    def _sweep(self, probe: Path) -> None:
        """Try whether files can be written here, and delete what killed processes have left."""
        try:
            write_whole(probe, b"")
            now = probe.stat().st_mtime
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise self._not_writable(error) from error
        sweep(self.folder, now)

    def _scan(self) -> tuple[list[ConceptHeader], list[tuple[Path, str]]]:
        headers, problems = [], []
        for path, status in concept_files(self.folder):
            try:
                header = HEADERS.get(path, status)
                headers.append(replace(header, name=file_name(path)))
            except ConceptFileError as error:
                if os.path.lexists(path):
                    problems.append((path, str(error)))
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


HEADERS: FileCache[ConceptHeader] = FileCache(
    lambda path: read_header(path), lambda header: 10_000 + len(header.preview or b""), KEPT_HEADERS
)
"""A library is listed often and changed rarely."""
OUTLINES: FileCache[Concept] = FileCache(
    lambda path: load_outline(path),
    lambda outline: 4 * (outline.tokens.numel() + outline.keys.numel() + outline.class_keys.numel()),
    KEPT_OUTLINES,
)
"""A prompt is changed often and the library rarely."""


def usable(
    read: Callable[[str], Concept], names: Iterable[str], needed: Container[str]
) -> tuple[list[Concept], dict[str, str]]:
    concepts, left_out = [], {}
    for name in names:
        try:
            concepts.append(read(name))
        except (ConceptFileError, UnknownConceptError) as error:
            if name in needed:
                raise
            left_out[name] = str(error)
    return concepts, left_out
