"""What killed processes leave behind: swept when it is old, never when somebody may be using it."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.concepts import leftovers
from ccvd_core.concepts.concept import BaseFingerprint, Concept
from ccvd_core.concepts.leftovers import DAY, HOUR, sweep
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.errors import LibraryError

NOW = 2e9
TEMPORARY = ".rex.0123456789abcdef.tmp"


def learned(name: str) -> Concept:
    ones = torch.ones(1, 4)
    return Concept(name, "subject", "dog", {}, ones[None], ones, ones, BaseFingerprint("x", (1.0,)))


def put(path: Path, age: float, data: bytes = b"x", now: float = NOW) -> Path:
    """A file that was last changed `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (now - age, now - age))
    return path


OLD = {
    TEMPORARY: DAY,
    ".rex.check": DAY,
    ".order-12.claim": DAY,
    ".progress/rex.partial": DAY,
    ".progress/.rex.0123456789abcdef.tmp": DAY,
    ".progress/rex.safetensors": 30 * DAY,
}


@pytest.mark.parametrize("name", OLD)
def test_leftovers_are_swept_when_old_and_only_then(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, OLD[name] - 60)
    assert sweep(tmp_path, NOW) == [] and path.exists()
    put(path, OLD[name] + 60)
    assert sweep(tmp_path, NOW) == [path] and not path.exists()


def test_an_empty_file_that_reserved_a_name_is_swept_after_an_hour(tmp_path: Path) -> None:
    path = put(tmp_path / "rex.safetensors", HOUR - 60, b"")
    assert sweep(tmp_path, NOW) == []
    put(path, HOUR + 60, b"")
    assert sweep(tmp_path, NOW) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "rex.safetensors",
        "notes.txt",
        ".DS_Store",
        "._rex.safetensors",
        ".order-x.claim",
        "rex.tmp",
        ".progress/a/b.tmp",
    ],
)
def test_nothing_else_is_swept_however_old(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, 1000 * DAY)
    assert sweep(tmp_path, NOW) == [] and path.read_bytes() == b"x"


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_links_are_never_followed(tmp_path: Path) -> None:
    inside = put(tmp_path / "elsewhere" / "work.partial", 1000 * DAY)
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / ".progress").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "library" / ".rex.check").symlink_to(inside)
    (tmp_path / "library" / ".kit.check").symlink_to(".kit.check")
    assert sweep(tmp_path / "library", NOW) == [] and inside.exists()


def test_a_folder_that_is_missing_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep(tmp_path / "none", NOW) == []
    path = put(tmp_path / TEMPORARY, 2 * DAY)

    def denied(*args: Any) -> Any:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    for call in ("os.listdir", "os.rename"):
        with monkeypatch.context() as patch:
            patch.setattr(call, denied)
            assert sweep(tmp_path, NOW) == []
    assert path.exists()


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_a_fresh_file_of_an_old_ones_name_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Between the look and the deletion another process swept the old claim, and a third made its own."""
    path = put(tmp_path / ".order-3.claim", 2 * DAY)
    real = os.rename

    def late(source: Any, target: Any) -> None:
        if Path(source) == path:
            path.unlink()
            put(path, 0, b"mine")
        real(source, target)

    def no_links(*args: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.rename", late)
    if not links:
        monkeypatch.setattr("os.link", no_links)
    assert sweep(tmp_path, NOW) == []
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"mine"


def test_a_lesson_begins_with_a_sweep(tmp_path: Path) -> None:
    library = ConceptLibrary(tmp_path)
    library.add(learned("good"))
    clock = (tmp_path / "good.safetensors").stat().st_mtime
    put(tmp_path / TEMPORARY, 2 * DAY, now=clock)
    put(tmp_path / ".order-2.claim", 2 * DAY, now=clock)
    put(tmp_path / ".progress" / "old.safetensors", 31 * DAY, now=clock)
    kept = put(tmp_path / ".progress" / "kit.safetensors", 7 * DAY, now=clock)
    put(tmp_path / "rex.safetensors", 2 * HOUR, b"", now=clock)
    library.check_can_add("rex")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        "good.safetensors",
        ".progress/kit.safetensors",
    }
    assert kept.exists()
    assert library.add(learned("rex")).order == 2


def test_a_name_that_is_being_reserved_says_so(tmp_path: Path) -> None:
    (tmp_path / "rex.safetensors").touch()
    for call in (
        lambda: ConceptLibrary(tmp_path).check_can_add("rex"),
        lambda: ConceptLibrary(tmp_path).add(learned("rex")),
    ):
        with pytest.raises(LibraryError, match=r"rex\.safetensors is reserved.*wait for an hour"):
            call()
    assert (tmp_path / "rex.safetensors").exists()


def die_while_reserving(folder: Path) -> None:
    def no_links(source: Any, target: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = no_links
    os.replace = lambda source, target: os._exit(7)
    ConceptLibrary(folder).add(learned("rex"))


def test_a_process_killed_without_hard_links_takes_no_name_for_ever(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=die_while_reserving, args=(tmp_path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 7
    left = list(tmp_path.iterdir())
    assert len(left) == 3 and (tmp_path / "rex.safetensors").stat().st_size == 0
    clock = max(path.stat().st_mtime for path in left)
    for path in left:
        os.utime(path, (clock - 2 * DAY, clock - 2 * DAY))
    library = ConceptLibrary(tmp_path)
    library.check_can_add("rex")
    assert list(tmp_path.iterdir()) == []
    assert library.add(learned("rex")).order == 1


def sweep_often(folder: Path, barrier: Any, swept: Any) -> None:
    barrier.wait(60)
    for _ in range(20):
        for path in leftovers.sweep(folder, NOW):
            swept.put(path.name)
    swept.put(None)


def test_two_processes_sweep_at_once(tmp_path: Path) -> None:
    """Every leftover goes, once (one may sweep what the other has just moved aside), and what is fresh stays."""
    old = [put(tmp_path / f".order-{number}.claim", 2 * DAY).name for number in range(200)]
    fresh = [put(tmp_path / f".order-{number}.claim", 60).name for number in range(200, 300)]
    spawn = multiprocessing.get_context("spawn")
    barrier, swept = spawn.Barrier(2), spawn.Queue()
    workers = [spawn.Process(target=sweep_often, args=(tmp_path, barrier, swept)) for _ in range(2)]
    for worker in workers:
        worker.start()
    names, ended = [], 0
    while ended < 2:
        name = swept.get(timeout=60)
        ended += name is None
        names += [name] * (name is not None)
    for worker in workers:
        worker.join(60)
    claims = [name for name in names if name.endswith(".claim")]
    assert len(claims) == len(set(claims)) and set(claims) <= set(old)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(fresh)
