"""A concept's outline: all of it but the adapters, from the head of its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ccvd_core.concepts import library as module
from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import load_concept, load_outline, save_concept
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.errors import ConceptFileError, UnknownConceptError


def concept(name: str = "rex", seed: int = 1) -> Concept:
    generator = torch.Generator().manual_seed(seed)
    tokens, keys, class_keys = (torch.randn(size, generator=generator) for size in ((3, 2, 5), (3, 5), (3, 5)))
    adapter = LowRank(torch.randn(4, 6, generator=generator), torch.randn(7, 4, generator=generator))
    base = BaseFingerprint("wan", (0.5, 1.0))
    return Concept(name, "subject", "dog", {"blocks.0.cross_attn.k": adapter}, tokens, keys, class_keys, base, order=3)


def test_an_outline_is_the_concept_without_its_adapters(tmp_path: Path):
    path = tmp_path / "rex.safetensors"
    save_concept(concept(), path)
    whole, outline = load_concept(path), load_outline(path)
    assert not outline.adapters and whole.adapters
    for part in ("tokens", "keys", "class_keys"):
        assert torch.equal(getattr(outline, part), getattr(whole, part))
    for part in ("name", "kind", "class_words", "base", "order"):
        assert getattr(outline, part) == getattr(whole, part)


def test_a_library_reads_an_outline_once_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shelf, reads = ConceptLibrary(tmp_path), []
    monkeypatch.setattr(module, "load_outline", lambda path: reads.append(path) or load_outline(path))
    shelf.add(concept())
    first = shelf.outline("rex")
    assert torch.equal(shelf.outline("rex").keys, first.keys) and len(reads) == 1
    shelf.remove("rex")
    shelf.add(concept(seed=2))
    assert not torch.equal(shelf.outline("rex").keys, first.keys)


def test_a_renamed_file_is_a_concept_of_the_new_name(tmp_path: Path):
    shelf = ConceptLibrary(tmp_path)
    shelf.add(concept())
    (tmp_path / "rex.safetensors").rename(tmp_path / "max.safetensors")
    assert shelf.outline("max").name == "max"
    with pytest.raises(UnknownConceptError, match="<rex>"):
        shelf.outline("rex")


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = tmp_path / "rex.safetensors"
    save_concept(concept(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConceptFileError, match="cut off"):
        load_outline(path)
