"""PEFT folders, against PEFT itself: what it saves we read, and what we write it loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from torch import nn

from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.peft_folder import CONFIG, WEIGHTS, read_peft_folder, write_peft_folder
from ccvd_core.errors import LoraFileError
from tests.core.test_lora_file import PLACES


def model() -> nn.Module:
    """The Linears of `PLACES`, under diffusers' names."""
    torch.manual_seed(1)
    top = nn.Module()
    for place in PLACES:
        parent: nn.Module = top
        *path, last = place.names[1].split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, nn.Linear(place.in_features, place.out_features))
    return top


TARGETS = [place.names[1] for place in PLACES]


def saved(folder: Path, config: Any) -> dict[str, torch.Tensor]:
    """Save an adapter with random weights; returns dW of every Linear as PEFT merges it."""
    base = model()
    before = {place.id: base.get_submodule(place.names[1]).weight.detach().clone() for place in PLACES}
    adapted = get_peft_model(base, config)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "hada" in name or "lokr" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    merged = adapted.merge_and_unload()
    return {place.id: merged.get_submodule(place.names[1]).weight.detach() - before[place.id] for place in PLACES}


FORMS = {
    "plain": {"r": 3, "lora_alpha": 5},
    "alpha is the rank": {"r": 4, "lora_alpha": 4},
    "rank-stabilised": {"r": 4, "lora_alpha": 3, "use_rslora": True},
    "patterns": {"r": 2, "lora_alpha": 5, "rank_pattern": {"to_q": 4}, "alpha_pattern": {"ffn.net.0.proj": 9}},
    "rank-stabilised, with patterns": {
        "r": 2,
        "lora_alpha": 5,
        "use_rslora": True,
        "rank_pattern": {"blocks.0.attn2.to_q": 3, "^blocks.1.attn1.to_out.0": 5},
        "alpha_pattern": {"to_out.0": 1, "to_q": 7},
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_peft_saved_is_read(form: str, tmp_path: Path) -> None:
    deltas = saved(tmp_path, LoraConfig(target_modules=TARGETS, **FORMS[form]))
    read = read_peft_folder(tmp_path, PLACES)
    assert set(read.adapters) == set(deltas) and not read.left_out
    for site, adapter in read.adapters.items():
        assert adapter.scale == 1.0
        torch.testing.assert_close(adapter.b @ adapter.a, deltas[site], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LoKrConfig(r=2, target_modules=TARGETS), "PEFT's method 'LOKR'"),
        (LoHaConfig(r=2, target_modules=TARGETS), "PEFT's method 'LOHA'"),
        (LoraConfig(r=2, use_dora=True, target_modules=TARGETS), "got DoRA"),
        (LoraConfig(r=2, bias="all", target_modules=TARGETS), "got biases"),
        (LoraConfig(r=2, lora_bias=True, target_modules=TARGETS), "got biases"),
    ],
    ids=["LoKr", "LoHa", "DoRA", "biases", "LoRA biases"],
)
def test_other_methods_of_peft_are_refused_by_name(config: Any, words: str, tmp_path: Path) -> None:
    saved(tmp_path, config)
    with pytest.raises(LoraFileError, match=f"expected plain LoRA; .*{words}"):
        read_peft_folder(tmp_path, PLACES)


def changed(folder: Path, **options: Any) -> None:
    saved(folder, LoraConfig(r=2, target_modules=TARGETS))
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **options}), encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"init_lora_weights": "pissa"}, r"changed weights of the model \(init_lora_weights pissa\)"),
        ({"modules_to_save": ["head"]}, "whole weights"),
        ({"peft_type": "IA3"}, "PEFT's method 'IA3'"),
        ({"r": 7}, "says rank 7 for .*, but the adapter there has rank 2"),
        ({"lora_alpha": "much"}, "ranks or alphas that are not numbers"),
        ({"rank_pattern": 5}, "patterns that are not a table"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "expected names of layers, not patterns"),
        ({"r": -1}, "PEFT refuses|says rank -1"),
    ],
)
def test_a_configuration_that_means_something_else_is_refused(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    changed(tmp_path, **options)
    with pytest.raises(LoraFileError, match=words):
        read_peft_folder(tmp_path, PLACES)


def test_options_of_a_newer_peft_do_not_stop_the_import(tmp_path: Path) -> None:
    changed(tmp_path, some_new_option=None)
    assert len(read_peft_folder(tmp_path, PLACES).adapters) == len(PLACES)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_damaged_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(text, encoding="utf-8")
    with pytest.raises(LoraFileError, match="adapter configuration that is not"):
        read_peft_folder(tmp_path, PLACES)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match=r"has no adapter_config\.json that can be read"):
        read_peft_folder(tmp_path, PLACES)
    changed(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(LoraFileError, match="cannot be read: it is not there"):
        read_peft_folder(tmp_path, PLACES)


def concept() -> Concept:
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 1.0), (2, 0.7), (5, 0.5)]
    adapters = {
        place.id: LowRank(
            torch.randn(rank, place.in_features, generator=generator),
            torch.randn(place.out_features, rank, generator=generator),
            scale,
        )
        for place, (rank, scale) in zip(PLACES, shapes, strict=True)
    }
    ones = torch.ones(2, 4)
    return Concept("rex", "subject", "dog", adapters, ones[:, None], ones, ones, BaseFingerprint("x", ()))


NAMES = {place.id: place.names[1] for place in PLACES}


def test_peft_loads_the_folder_that_we_write(tmp_path: Path) -> None:
    write_peft_folder(concept(), tmp_path / "rex", NAMES.__getitem__)
    base = model()
    before = {place.id: base.get_submodule(place.names[1]).weight.detach().clone() for place in PLACES}
    merged = PeftModel.from_pretrained(base, str(tmp_path / "rex")).merge_and_unload()
    for place in PLACES:
        adapter = concept().adapters[place.id]
        found = merged.get_submodule(place.names[1]).weight.detach() - before[place.id]
        torch.testing.assert_close(found, adapter.scale * adapter.b @ adapter.a, atol=1e-5, rtol=1e-4)


def test_a_folder_that_we_write_comes_back(tmp_path: Path) -> None:
    write_peft_folder(concept(), tmp_path, NAMES.__getitem__)
    write_peft_folder(concept(), tmp_path, NAMES.__getitem__)
    read = read_peft_folder(tmp_path, PLACES)
    for site, adapter in concept().adapters.items():
        torch.testing.assert_close(read.adapters[site].b @ read.adapters[site].a, adapter.scale * adapter.b @ adapter.a)


def test_somebody_elses_folder_is_never_overwritten(tmp_path: Path) -> None:
    changed(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(LoraFileError, match="never overwritten"):
        write_peft_folder(concept(), tmp_path, NAMES.__getitem__)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
