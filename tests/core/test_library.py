"""Concept libraries: order, names, several processes, disks that refuse."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from environment import ensure_environment
from patience import Life, Patience, cpu_seconds

from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import load_concept, save_concept
from ccvd_core.concepts.header import read_header
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.errors import CCVDError, ConceptFileError, LibraryError, UnknownConceptError


def learned(name: str, seed: int = 0) -> Concept:
    generator = torch.Generator().manual_seed(seed)
    adapter = LowRank(torch.randn(2, 3, generator=generator), torch.randn(4, 2, generator=generator))
    ones = torch.ones(1, 4)
    return Concept(
        name, "subject", "dog", {"blocks.0.q": adapter}, ones[None], ones, ones, BaseFingerprint("x", (1.0,))
    )


@pytest.fixture
def library(tmp_path: Path) -> ConceptLibrary:
    """A library whose folder, and the folder above, do not exist yet."""
    return ConceptLibrary(tmp_path / "ccvd" / "mine")


def contents(library: ConceptLibrary) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in library.folder.iterdir()}


def failing(number: int) -> Any:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_missing_folder_is_an_empty_library(library: ConceptLibrary) -> None:
    assert library.headers() == []
    assert library.names() == []
    assert library.problems() == []
    assert not library.folder.exists()
    with pytest.raises(UnknownConceptError, match="none yet: learn one"):
        library.load("rex")
    with pytest.raises(UnknownConceptError):
        library.remove("rex")


def test_concepts_come_in_learning_order(library: ConceptLibrary) -> None:
    added = [library.add(learned(name)) for name in ("zoe", "rex", "ann")]
    assert [concept.order for concept in added] == [1, 2, 3]
    assert library.names() == ["zoe", "rex", "ann"]
    assert [header.order for header in library.headers()] == [1, 2, 3]
    assert sorted(contents(library)) == ["ann.safetensors", "rex.safetensors", "zoe.safetensors"]
    assert library.load("rex").order == 2
    assert library.load("rex").adapters["blocks.0.q"].a.equal(learned("rex").adapters["blocks.0.q"].a)


def test_orders_have_gaps_after_removal_and_are_not_reused(library: ConceptLibrary) -> None:
    for name in ("a", "b", "c"):
        library.add(learned(name))
    library.remove("b")
    assert library.names() == ["a", "c"]
    assert library.add(learned("d")).order == 4
    with pytest.raises(UnknownConceptError, match="<a>, <c>, <d>"):
        library.load("b")


def test_equal_orders_are_sorted_by_name(library: ConceptLibrary) -> None:
    library.add(learned("m"))
    for name in ("z", "a"):
        save_concept(replace(learned(name), order=1), library.folder / f"{name}.safetensors")
    assert library.names() == ["a", "m", "z"]


def test_a_name_is_never_overwritten(library: ConceptLibrary) -> None:
    library.add(learned("rex"))
    before = contents(library)
    with pytest.raises(LibraryError, match="Choose another name, or delete the file"):
        library.add(learned("rex", seed=1))
    with pytest.raises(LibraryError, match="Choose another name"):
        library.check_can_add("rex")
    assert contents(library) == before


def test_a_damaged_file_is_not_overwritten_either(library: ConceptLibrary) -> None:
    library.folder.mkdir(parents=True)
    (library.folder / "rex.safetensors").write_bytes(b"damaged")
    with pytest.raises(LibraryError, match="Choose another name"):
        library.add(learned("rex"))
    assert contents(library) == {"rex.safetensors": b"damaged"}


def test_a_name_taken_at_the_last_moment(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes the name between the look at the folder and the link."""
    link = os.link

    def late(source: Any, target: Any) -> None:
        save_concept(learned("rex", seed=1), Path(target))
        link(source, target)

    monkeypatch.setattr("os.link", late)
    with pytest.raises(LibraryError, match="Choose another name"):
        library.add(learned("rex"))
    assert library.load("rex").adapters["blocks.0.q"].a.equal(learned("rex", 1).adapters["blocks.0.q"].a)
    assert list(contents(library)) == ["rex.safetensors"]


def test_an_order_published_at_the_last_moment(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process publishes order 1 after this one chose 1 and before it claims 1: the claim is checked again."""
    library.folder.mkdir(parents=True)
    real, calls = ConceptLibrary.headers, []

    def headers(self: ConceptLibrary) -> list[Any]:
        found = real(self)
        if not calls:
            save_concept(replace(learned("other"), order=1), library.folder / "other.safetensors")
        calls.append(1)
        return found

    monkeypatch.setattr(ConceptLibrary, "headers", headers)
    assert library.add(learned("rex")).order == 2
    monkeypatch.undo()
    assert library.names() == ["other", "rex"]
    assert sorted(contents(library)) == ["other.safetensors", "rex.safetensors"]


def test_broken_files_are_listed_and_the_rest_works(library: ConceptLibrary) -> None:
    library.add(learned("good"))
    (library.folder / "cut.safetensors").write_bytes(b"12")
    shutil.copy(library.folder / "good.safetensors", library.folder / "Not A Name.safetensors")
    (library.folder / "notes.txt").write_text("x", encoding="utf-8")
    (library.folder / "._good.safetensors").write_bytes(b"a file manager's")
    (library.folder / ".half.123.tmp").write_bytes(b"left by a crash")
    (library.folder / "folder.safetensors").mkdir()
    assert library.names() == ["good"]
    problems = library.problems()
    assert len(problems) == 2
    assert "Not A Name" in problems[0]
    assert "Rename the file" in problems[0]
    assert "cut.safetensors" in problems[1]
    assert "cut off" in problems[1]
    with pytest.raises(ConceptFileError, match="cut off"):
        library.load("cut")
    assert library.add(learned("next")).order == 2
    library.remove("cut")
    assert len(library.problems()) == 1


@pytest.mark.parametrize(
    ("written", "crafted"),
    [(b'"ccvd.order":"1"', b'"ccvd.order":"%s"' % (b"9" * 300)), (b"[1.0]", b"[1%s]" % (b"0" * 400))],
    ids=["order", "fingerprint"],
)
def test_a_number_too_large_in_one_file_stops_nothing(library: ConceptLibrary, written: bytes, crafted: bytes) -> None:
    library.add(learned("bad"))
    path = library.folder / "bad.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    assert written in data[8:end]
    header = data[8:end].replace(written, crafted)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
    assert library.add(learned("good")).order == 1
    assert library.names() == ["good"]
    assert "bad.safetensors" in library.problems()[0]


def test_adding_and_loading_in_inference_mode(library: ConceptLibrary) -> None:
    """As ComfyUI runs nodes; learning the next concept then needs the stored adapters in autograd."""
    with torch.inference_mode():
        library.add(learned("rex"))
        stored = library.load("rex").adapters["blocks.0.q"]
    learning = torch.ones(4, 2, requires_grad=True)
    (learning.T @ stored.b).square().sum().backward()
    assert learning.grad is not None
    assert learning.grad.abs().sum() > 0


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows")
def test_links_count_and_broken_ones_are_listed(library: ConceptLibrary, tmp_path: Path) -> None:
    save_concept(learned("far"), tmp_path / "far.safetensors")
    library.folder.mkdir(parents=True)
    (library.folder / "far.safetensors").symlink_to(tmp_path / "far.safetensors")
    (library.folder / "lost.safetensors").symlink_to(tmp_path / "nowhere.safetensors")
    assert library.names() == ["far"]
    assert len(library.problems()) == 1
    assert "not there" in library.problems()[0]


def test_a_file_removed_while_listing_is_no_problem(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_too_late(path: Path) -> Any:
        path.unlink()
        return read_header(path)

    library.add(learned("rex"))
    os.utime(library.folder / "rex.safetensors", ns=(0, 1))  # not as it was when it was last read
    monkeypatch.setattr("ccvd_core.concepts.library.read_header", read_too_late)
    assert library.problems() == []
    assert library.headers() == []


def test_a_renamed_file_is_a_renamed_concept(library: ConceptLibrary) -> None:
    library.add(learned("rex"))
    (library.folder / "rex.safetensors").rename(library.folder / "max.safetensors")
    assert library.names() == ["max"]
    assert library.load("max").name == "max"
    with pytest.raises(UnknownConceptError, match="<max>"):
        library.load("rex")


@pytest.mark.parametrize("name", ["../outside", "outside/../../outside", "", "UPPER", "a.b", "/etc/passwd"])
def test_names_cannot_leave_the_folder(library: ConceptLibrary, name: str) -> None:
    library.add(learned("rex"))
    save_concept(learned("outside"), library.folder.parent / "outside.safetensors")
    with pytest.raises(UnknownConceptError, match="<rex>"):
        library.load(name)
    with pytest.raises(UnknownConceptError):
        library.remove(name)
    with pytest.raises(CCVDError, match="cannot be used"):
        library.check_can_add(name)
    assert (library.folder.parent / "outside.safetensors").exists()


def test_the_signature_changes_with_the_files_only(library: ConceptLibrary) -> None:
    seen = [library.library_signature()]
    library.add(learned("a"))
    seen.append(library.library_signature())
    library.add(learned("b"))
    seen.append(library.library_signature())
    path = library.folder / "a.safetensors"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1000))
    seen.append(library.library_signature())
    path.rename(library.folder / "c.safetensors")
    seen.append(library.library_signature())
    library.remove("c")
    seen.append(library.library_signature())
    assert len(set(seen)) == len(seen)
    (library.folder / "notes.txt").write_text("x", encoding="utf-8")
    library.headers()
    library.load("b")
    assert library.library_signature() == seen[-1]
    assert ConceptLibrary(library.folder).library_signature() == seen[-1]


def test_a_file_is_read_again_when_it_changed(library: ConceptLibrary) -> None:
    library.add(learned("a"))
    assert library.headers()[0].class_words == "dog"
    save_concept(replace(learned("a"), class_words="cat"), library.folder / "a.safetensors")
    assert library.headers()[0].class_words == "cat"


# Disks that refuse


@pytest.mark.parametrize(
    ("call", "number", "message"),
    [
        ("os.fsync", errno.ENOSPC, "disk is full"),
        ("builtins.open", errno.EACCES, "access was denied"),
        ("builtins.open", errno.EROFS, "access was denied"),
        ("builtins.open", errno.ENOSPC, "disk is full"),
        ("os.mkdir", errno.EACCES, "access was denied"),
    ],
)
def test_nothing_is_left_when_the_disk_refuses(
    library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch, call: str, number: int, message: str
) -> None:
    if call != "os.mkdir":
        library.folder.mkdir(parents=True)
    monkeypatch.setattr(call, failing(number))
    with pytest.raises(LibraryError, match=message):
        library.check_can_add("rex")
    with pytest.raises(LibraryError, match=message):
        library.add(learned("rex"))
    monkeypatch.undo()
    assert not library.folder.exists() or contents(library) == {}
    assert library.add(learned("rex")).order == 1


def test_a_path_that_is_a_file_or_below_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        library = ConceptLibrary(folder)
        with pytest.raises(LibraryError, match="a file stands where a folder is expected"):
            library.add(learned("rex"))
        with pytest.raises(LibraryError, match="a file stands where a folder is expected"):
            library.headers()
        with pytest.raises(LibraryError):
            library.library_signature()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "x"


def test_a_folder_that_cannot_be_listed(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add(learned("rex"))
    monkeypatch.setattr("os.scandir", failing(errno.EACCES))
    with pytest.raises(LibraryError, match=r"Cannot read the concept library.*access was denied"):
        library.names()


def test_a_file_that_cannot_be_deleted(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    library.add(learned("rex"))
    monkeypatch.setattr(Path, "unlink", failing(errno.EACCES))
    with pytest.raises(LibraryError, match=r"Cannot delete.*access was denied"):
        library.remove("rex")
    assert library.names() == ["rex"]


def test_the_check_leaves_nothing(library: ConceptLibrary) -> None:
    library.check_can_add("rex")
    assert contents(library) == {}


# Disks without hard links (exFAT, some network drives)


def test_adding_without_hard_links(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.link", failing(errno.EPERM))
    assert library.add(learned("rex")).order == 1
    assert list(contents(library)) == ["rex.safetensors"]
    assert library.load("rex").order == 1
    with pytest.raises(FileExistsError):
        save_concept(learned("rex", seed=1), library.folder / "rex.safetensors", replace=False)
    assert library.load("rex").adapters["blocks.0.q"].a.equal(learned("rex").adapters["blocks.0.q"].a)


def test_a_failed_rename_without_hard_links_leaves_nothing(
    library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", failing(errno.EPERM))
    monkeypatch.setattr("os.replace", failing(errno.ENOSPC))
    with pytest.raises(LibraryError, match="disk is full"):
        library.add(learned("rex"))
    assert contents(library) == {}


# Several processes


def add_many(folder: Path, names: list[str], barrier: Any, orders: Any) -> None:
    library = ConceptLibrary(folder)
    barrier.wait()
    for name in names:
        try:
            orders.put((name, library.add(learned(name, os.getpid())).order))
        except LibraryError:
            orders.put((name, None))


def wait_for(call: Callable[[], Any]) -> Any:
    """The answer of a call that waits for our child processes."""

    def look() -> Life:
        return Life(sum(cpu_seconds(child.pid or 0) for child in multiprocessing.active_children()))

    return Patience(look, "The other process does not end").wait_for(call)


def test_two_processes_add_at_once(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten own names each and five that both want: orders are unique, nothing is lost, each name is won once."""
    # As after the tests of tests/backbones: ComfyUI has a package named tests too.
    monkeypatch.setattr(sys, "path", [*sys.path, str(ensure_environment().comfyui)])
    spawn = multiprocessing.get_context("spawn")
    barrier, orders = spawn.Barrier(2), spawn.Queue()
    both = [f"both{number}" for number in range(5)]
    lists = [[name for pair in zip(own(side), both * 2, strict=True) for name in pair] for side in "ab"]
    workers = [
        spawn.Process(target=add_many, args=(library.folder, names, barrier, orders), daemon=True) for names in lists
    ]
    for worker in workers:
        worker.start()
    results = [wait_for(orders.get) for names in lists for _ in names]
    for worker in workers:
        wait_for(worker.join)
    won = [(name, order) for name, order in results if order is not None]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(name for name, _ in won) == sorted([*own("a"), *own("b"), *both])
    assert len({order for _, order in won}) == 25
    assert {header.name: header.order for header in library.headers()} == dict(won)
    assert library.problems() == []
    assert len(contents(library)) == 25
    for name, order in won:
        assert load_concept(library.folder / f"{name}.safetensors").order == order


def own(side: str) -> list[str]:
    return [f"{side}{number}" for number in range(10)]


def die_while_adding(folder: Path) -> None:
    os.link = lambda source, target: os._exit(7)
    ConceptLibrary(folder).add(learned("rex"))


def test_a_process_that_dies_while_adding_stops_nobody(library: ConceptLibrary) -> None:
    """Killed between writing the temporary file and giving it its name: no lock to break, only a gap in the orders."""
    library.add(learned("first"))
    worker = multiprocessing.get_context("spawn").Process(target=die_while_adding, args=(library.folder,))
    worker.start()
    wait_for(worker.join)
    assert worker.exitcode == 7
    assert library.names() == ["first"]
    assert library.problems() == []
    assert library.add(learned("rex")).order == 3
    assert library.names() == ["first", "rex"]
    assert read_header(library.folder / "rex.safetensors").order == 3
