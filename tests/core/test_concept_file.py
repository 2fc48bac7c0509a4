"""Concept files: what goes in comes out bit for bit; whatever is wrong with a file is said, never loaded."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import check_words_fit, digest, load_concept, read_tensors, save_concept
from ccvd_core.concepts.header import ConceptHeader, read_header
from ccvd_core.errors import CCVDError, ConceptFileError, LibraryError

SITES = ("blocks.0.cross_attn.k", "blocks.0.cross_attn.q", "blocks.1.ffn.0")

SEEDS = st.integers(-(2**63), 2**64 - 1)


def learned(name: str = "rex", seed: int = 0, **changes: Any) -> Concept:
    """A small concept of random numbers: 2 layers, 3 text rows, width 5, ranks 4 and 2."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    adapters = {site: LowRank(random(4, 6), random(7, 4), 0.5) for site in SITES[:2]}
    adapters[SITES[2]] = LowRank(random(2, 6).bfloat16(), random(9, 2).bfloat16(), 1.0)
    concept = Concept(
        name=name,
        kind="subject",
        class_words="little dog 犬",
        adapters=adapters,
        tokens=random(2, 3, 5) * 1e-20,
        keys=random(2, 5),
        class_keys=random(2, 5),
        base=BaseFingerprint("wan 2 layers", (0.1, -2.5e-7, 3.0)),
        order=3,
        settings={"steps": 800, "lr": 1e-4, "job": "b"},
        preview=b"\x00\xffpicture",
    )
    return replace(concept, **changes)


def assert_same(one: Concept, other: Concept) -> None:
    """Equal in everything, tensors bit for bit."""
    plain = ("name", "kind", "class_words", "order", "base", "settings", "preview", "token_injection")
    assert {key: getattr(one, key) for key in plain} == {key: getattr(other, key) for key in plain}
    for key in ("tokens", "keys", "class_keys"):
        assert getattr(one, key).view(torch.int32).equal(getattr(other, key).view(torch.int32))
    assert one.adapters.keys() == other.adapters.keys()
    for site, adapter in one.adapters.items():
        twin = other.adapters[site]
        assert adapter.scale == twin.scale
        assert (adapter.a.dtype, adapter.b.dtype) == (twin.a.dtype, twin.b.dtype)
        assert adapter.a.equal(twin.a)
        assert adapter.b.equal(twin.b)


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a file's JSON header and keep its tensors' bytes."""
    data = path.read_bytes()
    header = header_of(path)
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good concept file."""
    path = tmp_path / "rex.safetensors"
    save_concept(learned(), path)
    return path


def test_what_goes_in_comes_out(path: Path) -> None:
    assert_same(load_concept(path), learned())


def test_special_floats_keep_their_bits(tmp_path: Path) -> None:
    bits = torch.tensor([[[-(2**31), 1, 0x00800000, 0x477FE000]]], dtype=torch.int32)  # -0, least, normal, 65504
    concept = learned(tokens=bits.view(torch.float32), keys=torch.ones(1, 4), class_keys=torch.ones(1, 4))
    save_concept(concept, tmp_path / "a.safetensors")
    assert load_concept(tmp_path / "a.safetensors").tokens.view(torch.int32).equal(bits)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.text(min_size=1, max_size=30).filter(str.strip).filter(lambda text: text.isprintable()),
    order=st.integers(0, 10**6),
    scale=st.floats(2**-10, 64, width=32),
    notes=st.dictionaries(st.text(), st.none() | st.booleans() | SEEDS | st.text() | st.lists(SEEDS)),
    preview=st.none() | st.binary(max_size=50),
)
def test_any_concept_comes_back(
    tmp_path: Path, words: str, order: int, scale: float, notes: dict[str, Any], preview: bytes | None
) -> None:
    adapters = {SITES[0]: LowRank(torch.ones(2, 3), torch.zeros(4, 2), scale)}
    concept = learned(class_words=words, order=order, adapters=adapters, settings=notes, preview=preview)
    save_concept(concept, tmp_path / "any.safetensors")
    assert_same(load_concept(tmp_path / "any.safetensors"), concept)


def test_the_same_concept_gives_the_same_bytes(tmp_path: Path, path: Path) -> None:
    concept = learned()
    shuffled = replace(
        concept,
        adapters=dict(reversed(list(concept.adapters.items()))),
        settings=dict(reversed(list(concept.settings.items()))),
    )
    save_concept(shuffled, tmp_path / "two.safetensors")
    save_concept(load_concept(path), tmp_path / "three.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() == path.read_bytes()
    assert (tmp_path / "three.safetensors").read_bytes() == path.read_bytes()


def test_to_other_tools_it_is_a_lora(path: Path) -> None:
    parts = ("lora_A.weight", "lora_B.weight", "alpha")
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == {f"diffusion_model.{site}.{part}" for site in SITES for part in parts}
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    assert tensors[f"diffusion_model.{SITES[0]}.lora_A.weight"].equal(learned().adapters[SITES[0]].a)
    assert tensors[f"diffusion_model.{SITES[0]}.alpha"].item() == 0.5 * 4
    assert metadata["format"] == "pt"
    assert metadata["ccvd.format"] == "ccvd concept"
    assert metadata["ccvd.class_words"] == "little dog 犬"
    assert metadata["ccvd.rank"] == "4"


def test_a_file_saved_again_by_another_tool_still_loads(path: Path) -> None:
    """Such a tool puts tensors and metadata in another order and adds its own metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(dict(reversed(tensors.items())), path, {"tool": "x", **metadata})
    assert_same(load_concept(path), learned())


def test_the_header_tells_everything_but_the_tensors(path: Path) -> None:
    concept = learned()
    assert read_header(path) == ConceptHeader(
        name="rex",
        kind="subject",
        class_words="little dog 犬",
        order=3,
        rank=4,
        base=concept.base,
        layers=2,
        rows=3,
        width=5,
        parameters=2 * (4 * 6 + 7 * 4) + 2 * 6 + 9 * 2,
        file_bytes=path.stat().st_size,
        settings=concept.settings,
        preview=concept.preview,
    )


def test_where_tokens_are_added_is_kept(path: Path) -> None:
    save_concept(learned(token_injection="encoder"), path)
    assert load_concept(path).token_injection == read_header(path).token_injection == "encoder"
    with pytest.raises(CCVDError, match="token injection of 'rex' must be one of output, encoder; got 'before'"):
        learned(token_injection="before")


def test_a_file_from_before_there_was_a_choice_adds_tokens_after_the_encoder(path: Path) -> None:
    rewrite(path, lambda header: header["__metadata__"].pop("ccvd.token_injection"))
    header, tensors = read_tensors(path)
    total = digest(header.metadata, tensors)
    rewrite(path, lambda header: header["__metadata__"].update({"ccvd.digest": total}))
    assert load_concept(path).token_injection == read_header(path).token_injection == "output"


def test_the_header_is_read_without_the_tensors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors.torch, "load", lambda data: pytest.fail("read the tensors"))
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read the whole file"))
    assert read_header(path).name == "rex"


def test_only_the_headers_bytes_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counted(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    adapters = {SITES[0]: LowRank(torch.ones(64, 3000), torch.ones(3000, 64))}
    save_concept(learned(adapters=adapters), path)
    monkeypatch.setattr("builtins.open", lambda path, mode, opener: Counted(io.FileIO(path, mode)))
    about = read_header(path)
    monkeypatch.undo()
    assert about.parameters == 2 * 64 * 3000
    assert sum(read) == 8 + int.from_bytes(path.read_bytes()[:8], "little")


def test_what_is_loaded_in_inference_mode_can_meet_autograd(path: Path) -> None:
    """ComfyUI runs nodes in inference mode; retention multiplies stored adapters with learned ones."""
    with torch.inference_mode():
        concept = load_concept(path)
    for adapter in concept.adapters.values():
        learning = torch.ones_like(adapter.b, requires_grad=True)
        ((learning * adapter.b).sum() * adapter.a.sum()).backward()
        torch.testing.assert_close(learning.grad, adapter.b * adapter.a.sum())
    learning = torch.ones(5, requires_grad=True)
    (concept.tokens * concept.keys[:, None] * concept.class_keys[:, None] * learning).sum().backward()


def test_a_concept_made_in_inference_mode_is_saved(path: Path) -> None:
    with torch.inference_mode():
        save_concept(learned(seed=1), path)
    assert_same(load_concept(path), learned(seed=1))


def test_a_concept_without_adapters_and_preview(tmp_path: Path) -> None:
    concept = learned(adapters={}, preview=None, order=0)
    save_concept(concept, tmp_path / "bare.safetensors")
    assert_same(load_concept(tmp_path / "bare.safetensors"), concept)
    assert read_header(tmp_path / "bare.safetensors").rank == 0


def test_a_view_of_a_larger_tensor_that_learns_is_saved_alone(tmp_path: Path) -> None:
    shared = torch.randn(8, 8, requires_grad=True)
    adapter = LowRank(shared[:2].T[:2], shared[:3, :2])
    save_concept(learned(adapters={SITES[0]: adapter}), tmp_path / "view.safetensors")
    loaded = load_concept(tmp_path / "view.safetensors").adapters[SITES[0]]
    assert loaded.a.equal(shared[:2].T[:2])
    assert loaded.b.equal(shared[:3, :2])


# Damage


@pytest.mark.parametrize("read", [load_concept, read_header])
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 500, "header", "header + 1", "all but one"])
def test_a_file_that_was_cut_off_is_refused(path: Path, read: Callable[[Path], object], kept: int | str) -> None:
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    lengths = {"header": header, "header + 1": header + 1, "all but one": len(data) - 1}
    path.write_bytes(data[: lengths[kept] if isinstance(kept, str) else kept])
    with pytest.raises(ConceptFileError, match=r"rex\.safetensors.*cut off.*Copy it again"):
        read(path)


def test_a_file_that_was_added_to_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ConceptFileError, match=r"expected .* bytes; got"):
        load_concept(path)


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    """What was read, or the message."""
    try:
        return read(path)
    except ConceptFileError as error:
        return str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), in_header=st.booleans())
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path, where: float, bit: int, in_header: bool) -> None:
    path = tmp_path / "flip.safetensors"
    save_concept(learned(), path)
    data = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    data[int(where * (end if in_header else len(data)))] ^= 1 << bit
    path.write_bytes(data)
    about, concept = outcome(read_header, path), outcome(load_concept, path)
    assert isinstance(about, ConceptHeader) or re.search(r"(damaged|not a concept|newer version)", about)
    if isinstance(concept, Concept):
        assert_same(concept, learned())
    else:
        assert re.search(r"flip\.safetensors", concept)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(data)
    for read in (load_concept, read_header):
        with pytest.raises(ConceptFileError, match="noise"):
            read(path)


def test_an_ordinary_lora_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    safetensors.torch.save_file({"diffusion_model.blocks.0.cross_attn.q.lora_A.weight": torch.ones(4, 8)}, path)
    with pytest.raises(ConceptFileError, match=r"not a concept.*Load LoRA"):
        load_concept(path)


def test_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    for read in (load_concept, read_header):
        with pytest.raises(ConceptFileError):
            read(path)
    assert not (tmp_path / "exploded").exists()


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"diffusion_model.blocks.0.q": [1.0]}))


def foreign_lora(path: Path) -> None:
    safetensors.torch.save_file({A: torch.ones(4, 6), B: torch.ones(7, 4)}, path, {"ss_network_dim": "4"})


def without_class_words(path: Path) -> None:
    rewrite(path, lambda header: header["__metadata__"].pop("ccvd.class_words"))


@pytest.mark.parametrize("read", [load_concept, read_header])
@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (lambda path: path.write_text("Dear diary,\n" * 100, encoding="utf-8"), "Copy it again"),
        (lambda path: path.write_bytes(b""), "Copy it again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "Copy it again"),
        (pickled, "Copy it again"),
        (foreign_lora, "Load LoRA node. Use a file that Learn Concept wrote"),
        (without_class_words, "Copy it again"),
        (lambda path: rewrite(path, lambda header: header["__metadata__"].update({"ccvd.version": "9"})), "Update"),
        (lambda path: path.unlink(), "Check the folder"),
    ],
    ids=["text", "empty", "cut off", "pickle", "foreign", "metadata missing", "newer", "gone"],
)
def test_every_message_names_the_file_and_says_what_to_do(
    path: Path, spoil: Callable[[Path], object], advice: str, read: Callable[[Path], object]
) -> None:
    spoil(path)
    with pytest.raises(ConceptFileError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert advice in str(caught.value)


def test_a_newer_format_says_to_update(path: Path) -> None:
    rewrite(path, lambda header: header["__metadata__"].update({"ccvd.version": "2"}))
    for read in (load_concept, read_header):
        with pytest.raises(ConceptFileError, match=r"expected format version 1; got 2\. Update the pack"):
            read(path)


METADATA = {
    "no name": ({"name": None}, "ccvd.name"),
    "bad name": ({"name": "../x"}, "cannot be used"),
    "bad kind": ({"kind": "place"}, "kind"),
    "no class words": ({"class_words": " "}, "Class words of <rex> are missing"),
    "unknown place of tokens": ({"token_injection": "before"}, "token injection.*output, encoder; got 'before'"),
    "no order": ({"order": "first"}, "ccvd.order"),
    "order below 0": ({"order": "-1"}, "0 to 1000000000; got -1"),
    "order of 300 digits": ({"order": "9" * 300}, "ccvd.order.*whole number of 300 digits"),
    "true is no order": ({"order": "true"}, "ccvd.order"),
    "wrong rank": ({"rank": "7"}, "rank 7.*rank 4"),
    "version": ({"version": "one"}, "format version is not a number"),
    "settings": ({"settings": "[]"}, "ccvd.settings"),
    "deep settings": ({"settings": "[" * 100_000}, "ccvd.settings"),
    "fingerprint": ({"base": '{"architecture": "x"}'}, "fingerprint"),
    "fingerprint of texts": ({"base": '{"architecture": "x", "signature": ["1"]}'}, "fingerprint"),
    "fingerprint beyond floats": ({"base": f'{{"architecture": "x", "signature": [1{"0" * 400}]}}'}, "401 digits"),
    "fingerprint not finite": ({"base": '{"architecture": "x", "signature": [NaN, -Infinity]}'}, "not numbers"),
    "preview": ({"preview": "&&&"}, "base64"),
    "tokens": ({"tokens": "AAAA"}, "expected 120 bytes.*got 3"),
    "token axes": ({"tokens.shape": "[30]"}, "expected 3 sizes"),
    "keys of another width": ({"keys.shape": "[5, 2]"}, r"must be \[2, 5\]; got \[5, 2\]"),
    "endless shape": ({"tokens.shape": "[2, 3, 99999999999999]"}, "expected .* bytes"),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_make_no_sense(path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, message = METADATA[case]

    def change(header: dict[str, Any]) -> None:
        for key, text in changes.items():
            header["__metadata__"].pop(f"ccvd.{key}")
            if text is not None:
                header["__metadata__"][f"ccvd.{key}"] = text

    rewrite(path, change)
    good_digest = header_of(path)["__metadata__"]["ccvd.digest"]
    # The checksum would catch all of these; the other checks must hold for files that someone made on purpose, too.
    monkeypatch.setattr("ccvd_core.concepts.file.digest", lambda metadata, tensors: good_digest)
    with pytest.raises(ConceptFileError, match=f"(?s)rex.*{message}"):
        load_concept(path)


def test_not_finite_tokens_are_refused_on_loading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(path, lambda header: header["__metadata__"].update({"ccvd.tokens": "AADAfwAA" * 20}))  # NaN, 0 ...
    digest = header_of(path)["__metadata__"]["ccvd.digest"]
    monkeypatch.setattr("ccvd_core.concepts.file.digest", lambda metadata, tensors: digest)
    with pytest.raises(ConceptFileError, match="tokens have values that are not finite"):
        load_concept(path)


def test_a_changed_word_is_noticed_by_the_checksum(path: Path) -> None:
    rewrite(path, lambda header: header["__metadata__"].update({"ccvd.class_words": "little cat"}))
    with pytest.raises(ConceptFileError, match="checksum"):
        load_concept(path)


def saved_by_hand(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """The file with other tensors and its old metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    safetensors.torch.save_file(tensors, path, metadata)


A, B, ALPHA = (f"diffusion_model.{SITES[0]}.{part}" for part in ("lora_A.weight", "lora_B.weight", "alpha"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(B), "expected lora_A, lora_B and alpha"),
        (lambda tensors: tensors.pop(ALPHA), "expected lora_A, lora_B and alpha"),
        (lambda tensors: tensors.update({A: torch.ones(3, 6)}), r"got \[3, 6\], \[7, 4\]"),
        (lambda tensors: tensors.update({A: torch.ones(24)}), r"needs A \[rank, in\]"),
        (lambda tensors: tensors.update({ALPHA: torch.ones(2)}), "one alpha"),
        (lambda tensors: tensors.update({A: torch.full((4, 6), float("nan"))}), "lora_A.*not finite"),
        (lambda tensors: tensors.update({ALPHA: torch.tensor(float("inf"))}), "alpha.*not finite"),
        (lambda tensors: tensors.update({A: torch.ones(4, 6, dtype=torch.int32)}), "expected one of F64.*I32"),
        (lambda tensors: tensors.update({A + "x": torch.ones(2)}), "expected only diffusion_model"),
        (lambda tensors: tensors.update({"text_encoder.q.lora_A.weight": torch.ones(2)}), "expected only"),
    ],
)
def test_tensors_that_do_not_fit(path: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str) -> None:
    saved_by_hand(path, change)
    with pytest.raises(ConceptFileError, match=message):
        load_concept(path)


def test_overlapping_tensors_are_refused(path: Path) -> None:
    def overlap(header: dict[str, Any]) -> None:
        header[B]["data_offsets"] = [0, 7 * 4 * 4]

    rewrite(path, overlap)
    with pytest.raises(ConceptFileError, match="cannot be read"):
        load_concept(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for read in (load_concept, read_header):
        with pytest.raises(ConceptFileError, match="not there"):
            read(tmp_path / "none.safetensors")
        with pytest.raises(ConceptFileError, match="cannot be read"):
            read(tmp_path)


# Writing that fails


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapters": {SITES[0]: LowRank(torch.full((1, 2), float("inf")), torch.ones(2, 1))}}, "lora_A.*not finite"),
        ({"adapters": {SITES[0]: LowRank(torch.ones(1, 2), torch.ones(2, 1), float("nan"))}}, "alpha.*not finite"),
        ({"adapters": {SITES[0]: LowRank(torch.ones(1, 2, dtype=torch.int64), torch.ones(2, 1))}}, "int64"),
        ({"adapters": {"no/../id": LowRank(torch.ones(1, 2), torch.ones(2, 1))}}, "bad Linear id"),
        ({"tokens": torch.full((2, 3, 5), float("nan"))}, "tokens has values"),
        ({"tokens": torch.full((2, 3, 5), 1e300, dtype=torch.float64)}, "tokens has values"),
        (
            {"tokens": torch.zeros(0, 3, 5), "keys": torch.zeros(0, 5), "class_keys": torch.zeros(0, 5)},
            "tokens are empty",
        ),
        ({"order": -1}, "order must be 0 to"),
        ({"order": 10**9 + 1}, "order must be 0 to"),
        ({"adapters": {SITES[0]: LowRank(torch.full((1, 2), 1e5), torch.ones(2, 1))}}, "lora_A.*beyond 65504"),
        ({"adapters": {SITES[0]: LowRank(torch.ones(1, 2), torch.full((2, 1), 300.0), 300.0)}}, "alpha.*beyond 65504"),
        ({"keys": torch.full((2, 5), -7e4)}, "keys has values beyond"),
        ({"settings": {"seed": 10**40}}, "plain finite"),
        ({"settings": {"when": object()}}, "plain finite"),
        ({"settings": {"lr": float("nan")}}, "plain finite"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(path: Path, changes: dict[str, Any], message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ConceptFileError, match=message):
        save_concept(learned(**changes), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["rex.safetensors"]


def test_a_header_beyond_the_formats_limit_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccvd_core.concepts.file.MAX_HEADER_BYTES", 1000)
    with pytest.raises(ConceptFileError, match="fewer class words"):
        save_concept(learned(), path)


def test_class_words_that_would_not_fit_the_file_are_refused_before_learning() -> None:
    """The largest Wan has 40 layers of width 4096."""
    check_words_fit("rex", 40, 30, 4096)
    with pytest.raises(CCVDError, match=r"<rex> take 40 words or parts.*holds 31. Use fewer"):
        check_words_fit("rex", 40, 40, 4096)
    check_words_fit("rex", 40, 31, 4096)
    with pytest.raises(CCVDError):
        check_words_fit("rex", 40, 32, 4096)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (" ", "are missing"),
        ("dog \ud83d", r"half a character.*'dog \\ud83d'"),
        ("dog " * 200, "at most 500 characters; got 800"),
    ],
)
def test_class_words_that_no_encoder_can_read(words: str, message: str) -> None:
    with pytest.raises(CCVDError, match=f"(?i)class words.*{message}"):
        learned(class_words=words)


@pytest.mark.parametrize(
    ("call", "number", "message"),
    [
        ("os.replace", errno.EACCES, "access was denied"),
        ("os.replace", errno.ENOSPC, "disk is full"),
        ("os.fsync", errno.ENOSPC, "disk is full"),
        ("os.fsync", errno.EIO, "Check the disk"),
    ],
)
def test_a_failed_write_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, message: str
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    before = path.read_bytes()
    monkeypatch.setattr(call, fail)
    with pytest.raises(LibraryError, match=message):
        save_concept(learned(seed=1), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["rex.safetensors"]


def test_ctrl_c_while_writing_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_concept(learned(seed=1), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["rex.safetensors"]


def test_saving_again_replaces(path: Path) -> None:
    save_concept(learned(seed=1), path)
    assert_same(load_concept(path), learned(seed=1))
    assert os.listdir(path.parent) == ["rex.safetensors"]


def test_saving_without_replace_keeps_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        save_concept(learned(seed=1), path, replace=False)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["rex.safetensors"]


def test_a_folder_that_is_missing_or_a_file(tmp_path: Path, path: Path) -> None:
    with pytest.raises(LibraryError, match="not there"):
        save_concept(learned(), tmp_path / "none" / "rex.safetensors")
    with pytest.raises(LibraryError, match="a file stands where a folder"):
        save_concept(learned(), path / "rex.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no file modes")
def test_the_file_has_the_rights_of_any_new_file(path: Path) -> None:
    """Not the owner-only rights of a temporary file: libraries are shared."""
    (path.parent / "ordinary").touch()
    assert path.stat().st_mode == (path.parent / "ordinary").stat().st_mode
