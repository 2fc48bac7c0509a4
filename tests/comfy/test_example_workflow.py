"""The example workflow as it is shipped: queue exactly its graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import av
from PIL import Image

from .graphs import concept_file, put_pictures

if TYPE_CHECKING:
    import pytest
    from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
WORKFLOW = FOLDER / "learn_and_use_a_concept.json"
INPUT_FOLDER = "my_concept"


def test_it_learns_and_makes_a_video(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    from workflow import nodes_of, to_prompt

    put_pictures(server, tmp_path_factory.mktemp("example"), INPUT_FOLDER, [(128, 128)] * 4)
    prompt = to_prompt(json.loads(WORKFLOW.read_text(encoding="utf-8")), server.object_info())
    (saver,) = nodes_of(prompt, "SaveVideo")
    outputs = server.run(prompt, timeout=600)["outputs"]
    assert concept_file(server, "my_concepts", "rex").is_file()
    with av.open(server.output_path(outputs[saver]["images"][0])) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert len(frames) == 9 and frames[0].shape == (128, 128, 3)
    (aggregate,) = nodes_of(prompt, "CCVD_AggregateAdapters")
    assert outputs[aggregate]["images"], "the relevance heat map is shown in the node"


def test_it_has_a_picture_and_names_only_stock_nodes_and_ours(server: ComfyServer) -> None:
    known = server.object_info()
    types = {node["type"] for node in json.loads(WORKFLOW.read_text(encoding="utf-8"))["nodes"]}
    assert types - known.keys() <= {"MarkdownNote"}
    with Image.open(WORKFLOW.with_suffix(".jpg")) as picture:
        assert min(picture.size) > 500
