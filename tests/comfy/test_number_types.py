"""The number type that ComfyUI chooses for the demo model: one that the device computes fast."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .graphs import Graph, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer


def test_on_a_processor_the_demo_model_is_computed_in_float32(server: ComfyServer) -> None:
    """Its file is in float16, which processors emulate; bfloat16 is fast on some of them, float32 on all."""
    from server_place import has_cuda

    before = len(server.log)
    graph = Graph()
    graph.nodes[graph.base.id]["inputs"]["shift"] = 2.875  # of no other test, so that the model is loaded here
    graph.save(graph.sample(graph.model, graph.encode("a dog").out()))
    run(server, graph)
    expected = "float16" if has_cuda() else "float32"
    chosen = re.findall(r"model weight dtype torch\.(\w+), manual cast: (\w+)", server.log[before:])
    assert chosen == [(expected, "None")]
