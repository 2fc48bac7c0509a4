"""Concept files that someone made on purpose: refused quickly, in little memory, with a message that can be shown."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import load_concept, load_outline, save_concept
from ccvd_core.concepts.file_reading import MAX_FILE_BYTES, MAX_HEADER_BYTES
from ccvd_core.concepts.header import MAX_PREVIEW_BYTES, read_header
from ccvd_core.concepts.library import HEADERS, ConceptLibrary
from ccvd_core.concepts.plain_json import MAX_PARTS, parse_json
from ccvd_core.errors import MAX_MESSAGE, CCVDError, ConceptFileError, LibraryError, shorten
from ccvd_core.regions.layout import RegionLayoutError, layout_from, parse_layout

A, B, ALPHA = (f"diffusion_model.blocks.0.q.{part}" for part in ("lora_A.weight", "lora_B.weight", "alpha"))
HUGE = "9" * 4000
"""A number that Python reads; it refuses to write the product of two."""


def learned(name: str = "rex", **changes: Any) -> Concept:
    ones = torch.ones(1, 4)
    adapters = {"blocks.0.q": LowRank(torch.ones(2, 3), torch.ones(4, 2))}
    concept = Concept(name, "subject", "dog", adapters, ones[None], ones, ones, BaseFingerprint("x", (1.0,)))
    return replace(concept, **changes)


@pytest.fixture
def library(tmp_path: Path) -> ConceptLibrary:
    """With one good concept in it."""
    library = ConceptLibrary(tmp_path / "mine")
    library.add(learned("good"))
    return library


@pytest.fixture
def path(library: ConceptLibrary) -> Path:
    """A second one, to be spoiled."""
    path = library.folder / "rex.safetensors"
    save_concept(learned(), path)
    return path


def with_header(path: Path, change: Callable[[dict[str, Any]], None], instead: dict[str, str] | None = None) -> None:
    """Change a file's header; `instead` are replacements in its text, for numbers that Python would not write."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    change(header)
    text = json.dumps(header)
    for old, new in (instead or {}).items():
        assert old in text
        text = text.replace(old, new)
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data[end:])


def refused(library: ConceptLibrary, path: Path, words: str) -> None:
    """Every reader refuses the file in a message that can be shown, and its library works without it."""
    for read in (read_header, load_outline, load_concept):
        with pytest.raises(ConceptFileError, match=words) as caught:
            read(path)
        assert len(str(caught.value)) <= MAX_MESSAGE
    assert library.names() == ["good"]
    (problem,) = library.problems()
    assert path.name in problem and len(problem) <= MAX_MESSAGE
    library.check_can_add("next")
    assert library.add(learned("next")).order == 2


def set_entry(name: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(changes)


def set_text(key: str, text: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["__metadata__"].update({f"ccvd.{key}": text})


CRAFTED: dict[str, tuple[Callable[[dict[str, Any]], None], dict[str, str], str]] = {
    "sizes of 4000 digits": (set_entry(A, shape=["S", "S"]), {'"S"': HUGE}, "4000 digits"),
    "ends of 4000 digits": (set_entry(A, data_offsets=[0, "E"]), {'"E"': HUGE}, "4000 digits"),
    "5000 digits": (set_entry(A, shape=["S", 1]), {'"S"': "9" * 5000}, "5000 digits"),
    "token sizes of 4000 digits": (set_text("tokens.shape", f"[1, {HUGE}, {HUGE}]"), {}, "tokens.shape.*4000 digits"),
    "order of 5000 digits": (set_text("order", "9" * 5000), {}, "5000 digits"),
    "rank of 4000 digits": (set_text("rank", HUGE), {}, "4000 digits"),
    "a fraction of a million digits": (set_text("order", "0." + "9" * 1_000_000), {}, "1000002 characters"),
    "a fingerprint of 5000 digits": (set_text("base", f'{{"architecture": "x", "signature": [{HUGE}9]}}'), {}, "4001"),
    "a long name of the base": (set_text("base", f'{{"architecture": "{"x" * 9999}", "signature": []}}'), {}, "9999"),
    "alpha of 65 axes": (set_entry(ALPHA, shape=[1] * 65), {}, "at most 2 axes.*got 65"),
    "alpha of 100000 axes": (set_entry(ALPHA, shape=[1] * 100_000), {}, "at most 2 axes.*got 100000"),
    "a tensor without an end": (set_entry(A, shape=[2**62, 2**62]), {}, "does not fit its shape"),
    "nested sizes": (set_text("tokens.shape", "[" * 90_000), {}, "nested too deeply"),
    "a million sizes": (set_text("tokens.shape", f"[{'1,' * 1_000_000}1]"), {}, "more than 200000 values"),
    "200,000 values": (lambda header: header.update({"x": [0] * (MAX_PARTS + 1)}), {}, "more than 200000 values"),
    "20,000 tensors": (
        lambda header: header.update({f"diffusion_model.b{n}.alpha": {} for n in range(20_000)}),
        {},
        "at most 16384 tensors",
    ),
    "a kind of a megabyte": (set_text("kind", "k" * 1_000_000), {}, "kind"),
    "a name of a megabyte": (set_text("name", "n" * 1_000_000), {}, "cannot be used"),
    "class words of a megabyte": (set_text("class_words", "dog " * 250_000), {}, "at most 500 characters"),
    "half a character": (set_text("class_words", "dog \ud83d"), {}, "half a character"),
    "settings of a megabyte": (set_text("settings", "s" * 1_000_000), {}, "settings"),
    "a version of a megabyte": (set_text("version", "1" * 1_000_000), {}, "version"),
    "a format of a megabyte": (set_text("format", "f" * 1_000_000), {}, "not a concept"),
    "a tensor's name of a megabyte": (lambda header: header.update({"t" * 1_000_000: header[A]}), {}, "expected only"),
    "a tensor's type of a megabyte": (set_entry(A, dtype="F" * 1_000_000), {}, "expected one of"),
    "a site of a megabyte": (
        lambda header: header.update({f"diffusion_model.{'s' * 1_000_000}.alpha": header[ALPHA]}),
        {},
        "lora_A, lora_B and alpha",
    ),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_one_crafted_file_does_not_disable_its_library(library: ConceptLibrary, path: Path, case: str) -> None:
    change, instead, words = CRAFTED[case]
    with_header(path, change, instead)
    refused(library, path, words)


class Counted(io.BufferedReader):
    """What is read from it."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        Counted.bytes_read += len(data)
        return data


def count_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    Counted.bytes_read = 0
    monkeypatch.setattr("builtins.open", lambda path, mode, opener: Counted(io.FileIO(path, mode)))


def test_a_header_that_is_too_large_is_not_even_read(
    library: ConceptLibrary, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b'{"__metadata__"')
        file.truncate(100 * 1024**2)
    count_bytes(monkeypatch)
    assert library.names() == ["good"]
    assert "rex.safetensors" in library.problems()[0]
    monkeypatch.undo()
    assert Counted.bytes_read < 20_000
    refused(library, path, "not a concept")


def test_a_file_that_cannot_be_used_is_read_once_too(
    library: ConceptLibrary, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_header(path, set_text("order", "x" * 1_000_000))
    count_bytes(monkeypatch)
    library.headers()
    once = Counted.bytes_read
    for _ in range(5):
        library.headers()
    assert "ccvd.order" in library.problems()[0]
    assert once > 1_000_000 and Counted.bytes_read == once
    monkeypatch.undo()
    save_concept(learned(order=2), path)
    assert library.names() == ["good", "rex"]


def sparse(path: Path, total: int) -> None:
    """A file whose header and size agree on `total` bytes of tensors, which take no room on the disk."""
    rank = 256
    width = total // (4 * 2 * rank)

    def grow(header: dict[str, Any]) -> None:
        del header[ALPHA]
        end = 4 * rank * width
        header[A] = {"dtype": "F32", "shape": [rank, width], "data_offsets": [0, end]}
        header[B] = {"dtype": "F32", "shape": [width, rank], "data_offsets": [end, 2 * end]}
        header[ALPHA] = {"dtype": "F32", "shape": [], "data_offsets": [2 * end, 2 * end + 4]}
        header["__metadata__"]["ccvd.rank"] = str(rank)

    with_header(path, grow)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    os.truncate(path, 8 + length + 2 * 4 * rank * width + 4)


def test_a_file_of_200_gb_is_refused_by_its_size(library: ConceptLibrary, path: Path) -> None:
    sparse(path, 200 * 1024**3)
    refused(library, path, "at most 8 GB; got 200 GB")


def test_a_file_too_large_for_the_memory_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse(path, MAX_FILE_BYTES - 1024**2)
    assert read_header(path).rank == 256

    class Full(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            if size is not None and size > 1024**3:
                raise MemoryError
            return super().read(size)

    monkeypatch.setattr("builtins.open", lambda path, mode, opener: Full(io.FileIO(path, mode)))
    with pytest.raises(ConceptFileError, match=r"not enough memory for .*rex\.safetensors.*Close other programs"):
        load_concept(path)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (LowRank(torch.full((2, 3), 7e4), torch.ones(4, 2)), "lora_A.*beyond 65504"),
        (LowRank(torch.ones(2, 3), torch.full((4, 2), 1e300, dtype=torch.float64)), "lora_B.*beyond 65504"),
        (LowRank(torch.ones(2, 3), torch.ones(4, 2), 1e5), "alpha.*beyond 65504"),
        (LowRank(torch.ones(2, 3), torch.full((4, 2), -3000.0), 30.0), "times its alpha.*beyond 65504"),
    ],
)
def test_adapters_that_would_overflow_are_refused(
    path: Path, adapter: LowRank, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float16 ends at 65504: beyond, a model that computes in it gives a black video."""
    with monkeypatch.context() as patch:
        patch.setattr("ccvd_core.concepts.file.LARGEST", math.inf)
        save_concept(learned(adapters={"blocks.0.q": adapter}), path)
    with pytest.raises(ConceptFileError, match=words):
        load_concept(path)


@pytest.mark.parametrize("key", ["tokens", "keys", "class_keys"])
def test_tokens_and_keys_that_would_overflow_are_refused(path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ccvd_core.concepts.file.LARGEST", math.inf)
        save_concept(learned(**{key: torch.full((1, 1, 4) if key == "tokens" else (1, 4), 7e4)}), path)
    for read in (load_concept, load_outline):
        with pytest.raises(ConceptFileError, match="beyond 65504"):
            read(path)


def test_a_preview_far_too_large_is_left_out_of_the_listing(library: ConceptLibrary, path: Path) -> None:
    save_concept(learned(preview=b"x" * (MAX_PREVIEW_BYTES + 1)), path)
    header = next(header for header in library.headers() if header.name == "rex")
    assert header.preview is None
    assert load_concept(path).preview is not None


# Entries that are no files


@pytest.mark.skipif(os.name == "nt", reason="links need special rights on Windows, and pipes are no files there")
def test_odd_entries_do_not_disable_their_library(library: ConceptLibrary) -> None:
    (library.folder / "loop.safetensors").symlink_to("loop.safetensors")
    os.mkfifo(library.folder / "pipe.safetensors")
    (library.folder / "device.safetensors").symlink_to("/dev/zero")
    (library.folder / "folder.safetensors").mkdir()
    assert library.names() == ["good"]
    device, loop, pipe = library.problems()
    assert "device.safetensors" in device and "ordinary file" in device
    assert "loop.safetensors" in loop and "leads back to itself" in loop
    assert "pipe.safetensors" in pipe and "ordinary file" in pipe
    library.library_signature()
    for name in ("loop", "pipe", "device"):
        with pytest.raises(ConceptFileError, match=name):
            library.load(name)
        with pytest.raises(ConceptFileError, match=name):
            library.outline(name)
        with pytest.raises(LibraryError, match="Choose another name"):
            library.check_can_add(name)
    assert library.add(learned("next")).order == 2
    library.remove("pipe")
    assert len(library.problems()) == 2


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "fsencode"), reason="names are Unicode there")
def test_a_file_name_that_is_no_text_can_be_shown(library: ConceptLibrary) -> None:
    (library.folder / os.fsdecode(b"r\xffx.safetensors")).write_bytes(b"x")
    (problem,) = library.problems()
    assert "needs another name" in problem or "not a concept" in problem
    assert problem.encode()
    assert library.names() == ["good"]


# Messages


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, [10**5000] * 99, {"a" * 10**6: "b" * 10**6}, [[[[[[1] * 9] * 9] * 9] * 9] * 9], None, 1.5],
    ids=["text", "number", "numbers", "table", "nested", "none", "fraction"],
)
def test_foreign_values_are_shortened_whatever_they_are(value: Any) -> None:
    assert 0 < len(shorten(value)) <= 62


def test_a_number_in_a_message_is_written_out_or_counted() -> None:
    assert shorten(-12) == "-12"
    assert "5001 digits" in shorten(10**5000)


def test_no_message_is_over_1000_characters_and_its_end_is_kept() -> None:
    text = str(CCVDError("begins " + "x" * 5000 + " ends: do this"))
    assert len(text) == MAX_MESSAGE
    assert text.startswith("begins ") and text.endswith(" ends: do this")
    assert str(CCVDError("short")) == "short"
    assert str(CCVDError("\ud83d")).encode() == b"\\ud83d"
    assert len(str(CCVDError("\ud83d" * 900))) <= MAX_MESSAGE


@pytest.mark.parametrize("version", ['"' + "v" * 1_000_000 + '"', "9" * 4000, json.dumps(["x" * 100] * 5000)])
def test_a_layouts_version_is_shortened(version: str) -> None:
    with pytest.raises(RegionLayoutError) as caught:
        parse_layout(f'{{"version": {version}, "width": 64, "height": 64}}')
    assert len(str(caught.value)) <= 300


def test_a_layouts_version_of_5000_digits() -> None:
    """As JSON from elsewhere may bring it; Python refuses to write the number."""
    with pytest.raises(RegionLayoutError, match="digits"):
        layout_from({"version": 10**5000})


def test_json_of_a_file_is_bounded() -> None:
    assert parse_json('{"a": [1, -2.5e3, true, null, "x"]}') == {"a": [1, -2500.0, True, None, "x"]}
    assert parse_json(str(2**63)) == 2**63
    for text, why in (
        ("[" * 100_000, "nested too deeply"),
        ("[" + "0," * 200_001 + "0]", "more than 200000 values"),
        ("1" * 21, "21 digits"),
        ("1." + "0" * 500, "502 characters"),
        ("{", "Expecting property name"),
    ):
        with pytest.raises(ValueError, match=why):
            parse_json(text)


# Caches


def test_a_thousand_concepts_are_read_once(library: ConceptLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of files that have not changed opens none of them, and a prompt reads each outline once."""
    source = library.folder / "good.safetensors"
    for number in range(999):
        (library.folder / f"c{number}.safetensors").write_bytes(source.read_bytes())
    read: list[str] = []
    for name, real in (("load_outline", load_outline), ("read_header", read_header)):
        monkeypatch.setattr(
            f"ccvd_core.concepts.library.{name}", lambda path, name=name, real=real: read.append(name) or real(path)
        )
    HEADERS.clear()
    assert len(library.headers()) == 1000
    assert read == ["read_header"] * 1000
    for _ in range(3):
        assert len(library.names()) == 1000 and library.problems() == []
    assert len(read) == 1000
    for _ in range(3):
        outlines, left_out = library.usable_outlines(library.names())
        assert len(outlines) == 1000 and not left_out
    assert read.count("load_outline") == 1000 and len(read) == 2000
