"""Import LoRA and the export of Concept Library in the real ComfyUI, beside its own Load LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .graphs import DEMO_MODEL, Graph, Node, Run, concept_file, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

LIBRARY, LORA = "imports", "zxc.safetensors"
WORDS = "red dog"
PARTS = [*(f"{block}.{part}" for block in ("self_attn", "cross_attn") for part in "qkvo"), "ffn.0", "ffn.2"]
"""The Linears of a block that concepts adapt."""


@pytest.fixture(scope="module", autouse=True)
def lora(server: ComfyServer) -> Path:
    """A LoRA with adapters on every Linear of the demo model's blocks, as musubi-tuner writes them."""
    generator = torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = {}
    with safe_open(DEMO_MODEL, "pt") as model:
        for key in model.keys():  # noqa: SIM118 - it is no dictionary
            name = key.removeprefix("diffusion_model.").removesuffix(".weight")
            if not (key.endswith(".weight") and name.split(".", 2)[-1] in PARTS):
                continue
            out, into = model.get_slice(key).get_shape()
            file_name = "lora_unet_" + name.replace(".", "_")
            tensors[f"{file_name}.lora_down.weight"] = torch.randn(4, into, generator=generator) / into**0.5
            tensors[f"{file_name}.lora_up.weight"] = torch.randn(out, 4, generator=generator) * 0.3
            tensors[f"{file_name}.alpha"] = torch.tensor(2.0)
    assert tensors
    path = server.base / "models" / "loras" / LORA
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def import_lora(graph: Graph, **changes: Any) -> Node:
    usual = {
        "model": graph.model,
        "clip": graph.clip,
        "lora": LORA,
        "name": "zxc",
        "trigger_words": WORDS,
        "library": LIBRARY,
    }
    return graph.add("CCVD_ImportLora", **{**usual, **changes})


def stock(graph: Graph, lora: str) -> Node:
    """The latents with ComfyUI's Load LoRA and its text encoder. At cfg 1: it would act on the negative prompt too."""
    loaded = graph.add("LoraLoaderModelOnly", model=graph.model, lora_name=lora, strength_model=1.0)
    return graph.save(graph.sample(loaded.out(), graph.encode(f"a {WORDS} on green grass").out(), cfg=1.0))


def named(graph: Graph, library: Node, prompt: str, **changes: Any) -> Node:
    used = graph.aggregate(library, prompt, **changes)
    return graph.save(graph.sample(used.out(), used.out(1), cfg=1.0))


def test_it_samples_what_comfyuis_load_lora_samples(server: ComfyServer) -> None:
    graph = Graph()
    library = import_lora(graph)
    report = graph.show(library.out(1))
    with_name = named(graph, library, "a <zxc> on green grass", own_words_only=False)
    gated = named(graph, library, "a <zxc> on green grass")
    without = named(graph, library, f"a {WORDS} on green grass")
    theirs = stock(graph, LORA)
    base = graph.save(graph.sample(graph.model, graph.encode(f"a {WORDS} on green grass").out(), cfg=1.0))
    result = run(server, graph)
    latents = [result.latent(server, node) for node in (with_name, gated, without, theirs, base)]
    assert "Imported zxc.safetensors as <zxc>" in result.text(report) and "Left out" not in result.text(report)
    ours, own_words, unnamed, stocks, plain = latents
    assert torch.equal(unnamed, plain), "without its name nothing changes"
    effect = (stocks - plain).abs().mean()
    assert effect > 0.05
    assert (ours - stocks).abs().mean() < 0.02 * effect
    assert (own_words - stocks).abs().mean() > 0.02 * effect
    # Once more: nothing is imported or sampled again.
    again = run(server, graph)
    assert {library.id, with_name.id} <= again.cached()


def test_after_a_restart_the_same_import_is_recognised(server: ComfyServer) -> None:
    graph = Graph()
    run(server, _with(graph, import_lora(graph, library="again")))
    before = concept_file(server, "again", "zxc").stat().st_mtime_ns
    other = Graph()
    # Another node id: as if nothing were in ComfyUI's cache.
    other.show(other.encode("x").out())
    result = Run()
    report = other.show(import_lora(other, library="again", trigger_words=f" {WORDS} ").out(1))
    run(server, other, result)
    assert "is in the library 'again' already" in result.text(report)
    assert concept_file(server, "again", "zxc").stat().st_mtime_ns == before


def _with(graph: Graph, node: Node) -> Graph:
    graph.show(node.out(1))
    return graph


def test_an_export_is_a_file_that_load_lora_offers(server: ComfyServer) -> None:
    first = Graph()
    run(server, _with(first, import_lora(first, library="shared")))
    graph = Graph()
    shelf = graph.add("CCVD_ConceptLibrary", library="shared", adjust="", export="LoRA")
    listing = graph.show(shelf.out(1))
    text = run(server, graph).text(listing)
    assert "exported <zxc> to models/loras/ccvd/shared/zxc.safetensors" in text and "lora, 'red dog', rank 4" in text
    loading = Graph()
    samples = [stock(loading, name) for name in (LORA, "ccvd/shared/zxc.safetensors")]
    result = run(server, loading)
    original, exported = (result.latent(server, node) for node in samples)
    torch.testing.assert_close(exported, original, atol=1e-3, rtol=1e-3)


def test_another_kind_of_file_is_an_error_at_the_node(server: ComfyServer, lora: Path) -> None:
    save_file({"lora_unet_blocks_0_ffn_0.lokr_w1": torch.ones(2, 2)}, lora.parent / "other.safetensors")
    graph = Graph()
    with pytest.raises(Exception, match=r"expected LoRA adapters only .*got LoKr"):
        run(server, _with(graph, import_lora(graph, lora="other.safetensors", name="other")))
    assert not concept_file(server, LIBRARY, "other").exists()
