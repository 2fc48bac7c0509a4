"""Files are read once until they change; what is kept is bounded."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ccvd_core.concepts.file_cache import FAILURE_BYTES, FileCache
from ccvd_core.concepts.file_header import unreadable
from ccvd_core.errors import ConceptFileError


class Shelf:
    """A cache over files in two folders, which counts what it reads; a file takes as many bytes as it has."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.read = folder, []
        self.cache = FileCache(self._read, len, limit)
        for name in ("a", "b"):
            (folder / name).mkdir()

    def _read(self, path: Path) -> bytes:
        self.read.append(path.name)
        return path.read_bytes()

    def get(self, name: str) -> bytes:
        path = self.folder / name
        return self.cache.get(path, path.stat())

    def put(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, 100)


def test_a_file_is_read_again_only_when_it_changed(shelf: Shelf) -> None:
    shelf.put("a/x", b"1")
    assert [shelf.get("a/x") for _ in range(3)] == [b"1"] * 3 and shelf.read == ["x"]
    shelf.put("a/x", b"22")
    assert shelf.get("a/x") == b"22" and shelf.read == ["x", "x"]
    shelf.cache.clear()
    assert shelf.get("a/x") == b"22" and len(shelf.read) == 3


def test_a_library_too_large_keeps_what_was_read_first(shelf: Shelf) -> None:
    """Going round a cache that drops the oldest would find nothing in it."""
    for number in range(10):
        shelf.put(f"a/{number}", b"x" * 20)
    for _ in range(3):
        for number in range(10):
            shelf.get(f"a/{number}")
    assert len(shelf.read) == 10 + 2 * 5
    assert sorted(shelf.read[10:]) == sorted(["5", "6", "7", "8", "9"] * 2)


def test_another_folder_makes_room(shelf: Shelf) -> None:
    for number in range(5):
        shelf.put(f"a/{number}", b"x" * 20)
        shelf.get(f"a/{number}")
    shelf.put("b/new", b"x" * 30)
    assert shelf.get("b/new") and shelf.get("b/new")
    assert shelf.read == ["0", "1", "2", "3", "4", "new"]
    shelf.get("a/4")
    assert shelf.read[-1] == "new", "only as much room as was needed"
    shelf.put("b/huge", b"x" * 101)
    assert len(shelf.get("b/huge")) == 101


def test_a_changed_file_gives_back_its_room(shelf: Shelf) -> None:
    for size in (90, 80, 70, 60):
        shelf.put("a/x", b"x" * size)
        assert len(shelf.get("a/x")) == size
    assert shelf.get("a/x") and len(shelf.read) == 4


def test_what_cannot_be_used_is_remembered_what_cannot_be_reached_is_not(tmp_path: Path) -> None:
    read: list[str] = []

    def fail(path: Path) -> bytes:
        read.append(path.name)
        if path.name == "away":
            raise unreadable(path, OSError(errno.EIO, "x")) from OSError(errno.EIO, "x")
        raise ConceptFileError(f"damaged {path.name}")

    cache = FileCache(fail, len, 10 * FAILURE_BYTES)
    for name, times in (("damaged", 1), ("away", 3)):
        (tmp_path / name).touch()
        for _ in range(3):
            with pytest.raises(ConceptFileError, match=name):
                cache.get(tmp_path / name, os.stat(tmp_path / name))
        assert read.count(name) == times
