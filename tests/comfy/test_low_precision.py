"""Learning on weights in 8 bits, as artists with little memory load them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from .graphs import Graph, put_demo_model, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer


@pytest.fixture(scope="module", autouse=True)
def files(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    put_demo_model(server)
    put_pictures(server, tmp_path_factory.mktemp("low"), "low", [(64, 64)] * 2)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_learns_on_fp8_weights_and_leaves_them_as_they_were(server: ComfyServer, weight_dtype: str) -> None:
    def sampled() -> torch.Tensor:
        graph = Graph()
        samples = graph.save(graph.sample(graph.load(weight_dtype).out(), graph.encode("a dog").out()))
        return run(server, graph).latent(server, samples)

    before = sampled()
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="low")
    graph.learn(model=graph.load(weight_dtype).out(), images=images.out(), library=weight_dtype, steps=4)
    run(server, graph)
    assert torch.equal(sampled(), before)

    # The concept is not tied to the precision it was learned in.
    graph = Graph()
    used = graph.aggregate(graph.library(weight_dtype), "a <rex>")
    plain = graph.save(graph.sample(graph.model, graph.encode("a dog").out()))
    named = graph.save(graph.sample(used.out(0), used.out(1)))
    done = run(server, graph)
    assert not torch.equal(done.latent(server, named), done.latent(server, plain))


def test_fp8_weights_differ_from_the_files_own(server: ComfyServer) -> None:
    """Or the test above would not have met fp8 at all."""
    graph = Graph()
    context = graph.encode("a dog").out()
    saved = [graph.save(graph.sample(graph.load(kind).out(), context)) for kind in ("default", "fp8_e4m3fn")]
    done = run(server, graph)
    assert not torch.equal(*(done.latent(server, node) for node in saved))
