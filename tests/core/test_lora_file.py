"""Other tools' LoRA files: every way of writing keys, every other adapter type by its name, and crafted files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import load_concept, load_outline, save_concept
from ccvd_core.concepts.header import read_header
from ccvd_core.concepts.lora_export import EXPORTED, WITHOUT_TOKENS, write_lora
from ccvd_core.concepts.lora_file import MAX_RANK, read_lora
from ccvd_core.errors import CCVDError, LoraFileError, WrongBaseError


@dataclass(frozen=True)
class Linear:
    """A Linear of a model, as a LoRA file sees it."""

    id: str
    names: tuple[str, ...]
    in_features: int
    out_features: int


PLACES = (
    Linear("blocks.0.cross_attn.q", ("blocks.0.cross_attn.q", "blocks.0.attn2.to_q"), 6, 6),
    Linear("blocks.0.ffn.0", ("blocks.0.ffn.0", "blocks.0.ffn.net.0.proj"), 6, 10),
    Linear("blocks.1.self_attn.o", ("blocks.1.self_attn.o", "blocks.1.attn1.to_out.0"), 6, 6),
)
RANKS = {"blocks.0.cross_attn.q": 2, "blocks.0.ffn.0": 3, "blocks.1.self_attn.o": 4}


def adapters(seed: int = 0) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)
    return {
        place.id: LowRank(
            torch.randn(RANKS[place.id], place.in_features, generator=generator),
            torch.randn(place.out_features, RANKS[place.id], generator=generator),
            0.5,
        )
        for place in PLACES
    }


def delta(adapter: LowRank) -> Tensor:
    """dW = scale B A, by the definition."""
    return adapter.scale * adapter.b @ adapter.a


def keyed(name: Callable[[Linear], str], down: str, up: str, alpha: bool = True) -> dict[str, Tensor]:
    tensors = {}
    for place in PLACES:
        adapter = adapters()[place.id]
        tensors[name(place) + down] = adapter.a
        # Where there is no alpha, the scale is 1 and must be in B.
        tensors[name(place) + up] = adapter.b if alpha else adapter.b * adapter.scale
        if alpha:
            tensors[name(place) + ".alpha"] = torch.tensor(adapter.scale * adapter.rank)
    return tensors


def own(place: Linear) -> str:
    return place.names[0]


def diffusers(place: Linear) -> str:
    return place.names[1]


PEFT, KOHYA = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
STYLES: dict[str, dict[str, Tensor]] = {
    "ai-toolkit, diffusion-pipe": keyed(lambda p: "diffusion_model." + own(p), *PEFT, alpha=False),
    "ours": keyed(lambda p: "diffusion_model." + own(p), *PEFT),
    "lora_down": keyed(lambda p: "diffusion_model." + own(p), *KOHYA),
    "musubi-tuner": keyed(lambda p: "lora_unet_" + own(p).replace(".", "_"), *KOHYA),
    "two underscores": keyed(lambda p: "lora_unet__" + own(p).replace(".", "_"), *KOHYA),
    "kohya on diffusers' names": keyed(lambda p: "lora_transformer_" + diffusers(p).replace(".", "_"), *KOHYA),
    "LyCORIS": keyed(lambda p: "lycoris_" + own(p).replace(".", "_"), *KOHYA),
    "diffusers": keyed(lambda p: "transformer." + diffusers(p), *PEFT, alpha=False),
    "diffusers before PEFT": keyed(lambda p: "transformer." + diffusers(p), ".lora.down.weight", ".lora.up.weight"),
    "PEFT": keyed(lambda p: "base_model.model." + diffusers(p), *PEFT, alpha=False),
    "PEFT with the adapter's name": keyed(
        lambda p: "base_model.model." + own(p), ".lora_A.default.weight", ".lora_B.default.weight", alpha=False
    ),
    "no prefix": keyed(own, *PEFT),
    "no .weight": keyed(own, ".lora_A", ".lora_B"),
    "DiffSynth": keyed(lambda p: "pipe.dit." + own(p), ".lora_A.default.weight", ".lora_B.default.weight", alpha=False),
}


def written(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rex.safetensors"


@pytest.mark.parametrize("style", STYLES)
def test_every_tools_keys_give_the_same_adapters(style: str, file: Path) -> None:
    read = read_lora(written(file, STYLES[style]), PLACES)
    assert not read.left_out and set(read.adapters) == {place.id for place in PLACES}
    for site, adapter in adapters().items():
        found = read.adapters[site]
        assert found.scale == 1.0 and found.rank == RANKS[site]
        torch.testing.assert_close(found.b @ found.a, delta(adapter))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_other_types_are_read_as_float32(dtype: torch.dtype, file: Path) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in STYLES["musubi-tuner"].items()}
    read = read_lora(written(file, tensors), PLACES)
    site = "blocks.0.ffn.0"
    assert read.adapters[site].a.dtype == read.adapters[site].b.dtype == torch.float32
    name = "lora_unet_blocks_0_ffn_0"
    a, b = tensors[f"{name}.lora_down.weight"].float(), tensors[f"{name}.lora_up.weight"].float()
    assert torch.equal(read.adapters[site].a, a)
    assert torch.equal(read.adapters[site].b, b * 0.5)


OTHERS = {
    "LoKr": ("lokr_w1", "lokr_w2_a"),
    "LoHa": ("hada_w1_a", "hada_t2"),
    "DoRA": ("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.default.weight"),
    "GLoRA": ("a1.weight", "b2.weight"),
    "OFT or BOFT": ("oft_blocks", "oft_diag", "boft_R.default"),
    "(IA)3": ("on_input", "ia3_l.default"),
    "VeRA": ("vera_lambda_b.default",),
    "LoCon (convolutions)": ("lora_mid.weight",),
    "embeddings": ("lora_embedding_A.default",),
    "biases": ("diff_b", "bias", "lora_B.bias", "lora_up.bias"),
    "norms": ("norm_q.weight", "norm_k.diff", "w_norm"),
    "full differences of the weights": ("diff", "set_weight"),
    "whole weights": ("weight", "modulation"),
    "something unknown": ("surprise",),
}


@pytest.mark.parametrize(("kind", "ending"), [(kind, ending) for kind, endings in OTHERS.items() for ending in endings])
def test_other_adapter_types_are_refused_by_name(kind: str, ending: str, file: Path) -> None:
    """Even one such tensor among plain LoRAs: nothing is dropped without a word."""
    key = f"diffusion_model.blocks.0.cross_attn.q.{ending}"
    with pytest.raises(LoraFileError) as caught:
        read_lora(written(file, {**STYLES["ours"], key: torch.ones(6)}), PLACES)
    assert f"got {kind} ('{key[:40]}" in str(caught.value) and "Load LoRA" in str(caught.value)


def test_several_other_types_are_all_named(file: Path) -> None:
    tensors = {f"x.{ending}": torch.ones(2) for ending in ("lokr_w1", "hada_w1_a", "alpha", "dora_scale")}
    with pytest.raises(LoraFileError, match=r"LoRA adapters only.*DoRA \('x\.dora_scale'\).*LoHa.*LoKr"):
        read_lora(written(file, tensors), PLACES)


def test_an_adapter_of_a_convolution_is_refused(file: Path) -> None:
    name = "diffusion_model.patch_embedding"
    down, up = torch.ones(2, 4, 1, 2, 2), torch.ones(6, 2, 1, 1, 1)
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    with pytest.raises(LoraFileError, match=rf"one of a convolution at '{name}'"):
        read_lora(written(file, {**STYLES["lora_down"], **tensors}), PLACES)


# Layers that no concept adapts


def extra(size: float) -> dict[str, Tensor]:
    a, b = torch.zeros(1, 6), torch.zeros(6, 1)
    a[0, 0], b[0, 0] = 1.0, size
    return {"diffusion_model.text_embedding.0.lora_A.weight": a, "diffusion_model.text_embedding.0.lora_B.weight": b}


def test_little_that_does_not_fit_is_left_out_and_told(file: Path) -> None:
    total = sum(delta(adapter).square().sum() for adapter in adapters().values())
    size = float(total / 99) ** 0.5  # one percent
    read = read_lora(written(file, {**STYLES["ours"], **extra(size)}), PLACES)
    assert read.left_out == ("diffusion_model.text_embedding.0",)
    assert read.left_share == pytest.approx(0.01, rel=1e-4)
    assert set(read.adapters) == {place.id for place in PLACES}


def test_much_that_does_not_fit_is_refused_with_its_share(file: Path) -> None:
    total = sum(delta(adapter).square().sum() for adapter in adapters().values())
    size = float(total / 3) ** 0.5  # a quarter
    with pytest.raises(LoraFileError, match=r"25% of its change sits in 1 layers .*text_embedding\.0.*at most 10%"):
        read_lora(written(file, {**STYLES["ours"], **extra(size)}), PLACES)


def test_a_lora_of_another_model_is_refused(file: Path) -> None:
    with pytest.raises(WrongBaseError, match=r"none of its 1 layers .*got 'diffusion_model\.text_embedding\.0'"):
        read_lora(written(file, extra(1.0)), PLACES)
    tensors = {"blocks.0.cross_attn.q.lora_A": torch.ones(2, 7), "blocks.0.cross_attn.q.lora_B": torch.ones(6, 2)}
    with pytest.raises(WrongBaseError, match="from 7 to 6 numbers, the model connected has 6 to 6"):
        read_lora(written(file, tensors), PLACES)


# Crafted files


def pair(a: Tensor | None = None, b: Tensor | None = None, **others: Tensor) -> dict[str, Tensor]:
    name = "diffusion_model.blocks.0.cross_attn.q"
    parts = {
        "lora_A.weight": torch.ones(2, 6) if a is None else a,
        "lora_B.weight": torch.ones(6, 2) if b is None else b,
        **others,
    }
    return {f"{name}.{part}": tensor for part, tensor in parts.items()}


CRAFTED: dict[str, tuple[dict[str, Tensor], str]] = {
    "ranks differ": (pair(a=torch.ones(3, 6)), r"A \[rank, in\].*got \[3, 6\], \[6, 2\]"),
    "the wrong way round": (pair(torch.ones(6, 2), torch.ones(2, 6)), "from 2 to 2 numbers"),
    "no axes": (pair(a=torch.ones(())), "is damaged: the adapter of"),
    "one axis": (pair(b=torch.ones(12)), "is damaged: the adapter of"),
    "empty": (pair(torch.ones(0, 6), torch.ones(6, 0)), "is damaged: the adapter of"),
    "two alphas": (pair(alpha=torch.ones(2)), "one alpha; got"),
    "huge rank": (pair(torch.ones(MAX_RANK + 1, 6), torch.ones(6, MAX_RANK + 1)), "has rank 257 .*at most 256"),
    "NaN": (pair(a=torch.full((2, 6), torch.nan)), "A of .* has values that are not finite"),
    "infinite": (pair(b=torch.full((6, 2), torch.inf)), "B times alpha / rank of .* not finite"),
    "NaN alpha": (pair(alpha=torch.tensor(torch.nan)), "B times alpha / rank of .* not finite"),
    "alpha beyond all numbers": (pair(alpha=torch.tensor(1e30)), "B times alpha / rank of .* beyond 65504"),
    "whole numbers": (pair(a=torch.ones(2, 6, dtype=torch.int32)), "numbers of the type I32"),
    "without B": ({"x.lora_A.weight": torch.ones(2, 6)}, "not complete: .*'x' it has 'x.lora_A.weight' only"),
    "without A": ({"x.lora_up.weight": torch.ones(2, 6)}, "not complete"),
    "alpha alone": ({"x.alpha": torch.ones(())}, "not complete"),
    "twice under one name": ({**pair(), **pair(**{"lora_up.weight": torch.ones(6, 2)})}, "two adapters for"),
    "twice under two names": (
        {**pair(), **{key.replace("cross_attn.q", "attn2.to_q"): t for key, t in pair().items()}},
        r"two adapters for blocks\.0\.cross_attn\.q",
    ),
    "nothing": ({}, "nothing in it"),
    "long names": ({"x" * 501: torch.ones(1)}, "is no LoRA"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_file_is_refused(case: str, file: Path) -> None:
    tensors, words = CRAFTED[case]
    with pytest.raises(CCVDError, match=words):
        read_lora(written(file, tensors), PLACES)


@pytest.mark.parametrize("data", [b"", b"12345678", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}x"])
def test_garbage_is_refused(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    with pytest.raises(LoraFileError, match="is damaged"):
        read_lora(file, PLACES)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match=r"expected a \.safetensors file; got '\.pt'"):
        read_lora(tmp_path / "rex.pt", PLACES)
    with pytest.raises(LoraFileError, match="cannot be read: it is not there"):
        read_lora(tmp_path / "rex.safetensors", PLACES)
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(LoraFileError, match="expected an ordinary file"):
        read_lora(tmp_path / "folder.safetensors", PLACES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(file: Path) -> None:
    os.mkfifo(file)
    with pytest.raises(LoraFileError, match="expected an ordinary file"):
        read_lora(file, PLACES)


# Concepts without tokens, and concepts as LoRA files


def concept(tokens: int = 0) -> Concept:
    keys = torch.nn.functional.normalize(torch.arange(1.0, 9.0).reshape(2, 4), dim=-1)
    kind = "subject" if tokens else "lora"
    base = BaseFingerprint("two blocks", (1.0, 2.0))
    return Concept("rex", kind, "zxc dog", adapters(), torch.ones(2, tokens, 4), keys, keys * 0, base, 1)


def test_a_concept_without_tokens_is_saved_and_read(file: Path) -> None:
    save_concept(concept(), file)
    for read in (load_concept(file), load_outline(file)):
        assert read.kind == "lora" and read.tokens.shape == (2, 0, 4)
        assert torch.equal(read.keys, concept().keys) and not read.class_keys.any()
    assert (read_header(file).kind, read_header(file).rows) == ("lora", 0)
    assert set(load_concept(file).adapters) == set(adapters())


@pytest.mark.parametrize(("kind", "rows"), [("lora", 1), ("subject", 0)])
def test_only_an_imported_lora_has_no_tokens(kind, rows: int) -> None:
    keys = torch.ones(2, 4)
    with pytest.raises(CCVDError, match=rf"'rex' is a {kind} with tokens for {rows} text rows"):
        Concept("rex", kind, "dog", {}, torch.ones(2, rows, 4), keys, keys, BaseFingerprint("x", ()))


def test_a_file_that_says_a_motion_has_no_tokens_is_damaged(file: Path) -> None:
    save_concept(concept(), file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(file), file, {**metadata, "ccvd.kind": "motion"})
    with pytest.raises(CCVDError, match=r"is damaged: .*'rex' is a motion with tokens for 0 text rows"):
        read_header(file)


def test_a_concept_becomes_a_lora_file_and_comes_back(file: Path) -> None:
    write_lora(concept(tokens=2), file)
    read = read_lora(file, PLACES)
    for site, adapter in adapters().items():
        torch.testing.assert_close(read.adapters[site].b @ read.adapters[site].a, delta(adapter))
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert metadata[EXPORTED] == metadata["modelspec.title"] == "rex"
    assert metadata["modelspec.trigger_phrase"] == "zxc dog"
    assert metadata["modelspec.description"] == WITHOUT_TOKENS and "tokens are not in this file" in WITHOUT_TOKENS


def test_an_export_takes_the_place_of_its_own_kind_only(file: Path) -> None:
    write_lora(concept(), file)
    write_lora(concept(tokens=2), file)
    written(file, {"somebody": torch.ones(1)})
    with pytest.raises(LoraFileError, match="already another file"):
        write_lora(concept(), file)
    assert list(load_file(file)) == ["somebody"]


def test_a_concept_file_is_not_imported_without_its_tokens(file: Path) -> None:
    save_concept(concept(tokens=1), file)
    with pytest.raises(LoraFileError, match="is a concept already, with tokens that an import would lose"):
        read_lora(file, PLACES)


def test_diffusers_metadata_say_the_scale(file: Path) -> None:
    """diffusers writes no alpha beside the adapters but PEFT's configuration into the metadata."""
    name = "transformer.blocks.0.attn2.to_q"
    tensors = {f"{name}.lora_A.weight": torch.ones(2, 6), f"{name}.lora_B.weight": torch.ones(6, 2)}
    config = {"transformer.r": 2, "transformer.lora_alpha": 7, "transformer.target_modules": ["to_q"]}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(config)}
    read = read_lora(written(file, tensors, metadata), PLACES)
    torch.testing.assert_close(read.adapters["blocks.0.cross_attn.q"].b, torch.full((6, 2), 3.5))
