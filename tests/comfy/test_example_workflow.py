"""The example workflows as they are shipped: queue exactly their graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from PIL import Image

from .graphs import concept_file, put_pictures

if TYPE_CHECKING:
    from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def workflow(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def frames_of(video: Path) -> list[Any]:
    with av.open(video) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def test_it_learns_and_makes_a_video(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    from workflow import nodes_of, to_prompt

    put_pictures(server, tmp_path_factory.mktemp("example"), "my_concept", [(128, 128)] * 4)
    prompt = to_prompt(workflow("1 Learn a concept and make a video"), server.object_info())
    (saver,) = nodes_of(prompt, "SaveVideo")
    outputs = server.run(prompt)["outputs"]
    assert concept_file(server, "my_concepts", "rex").is_file()
    frames = frames_of(server.output_path(outputs[saver]["images"][0]))
    assert len(frames) == 9 and frames[0].shape == (128, 128, 3)
    (aggregate,) = nodes_of(prompt, "CCVD_AggregateAdapters")
    assert outputs[aggregate]["images"], "the relevance heat map is shown in the node"


def test_it_learns_two_concepts_and_puts_each_in_its_region(
    server: ComfyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The graph as it is, but for the learning steps: both concepts need as long as the one above."""
    from workflow import nodes_of, set_inputs, to_prompt

    for folder in ("my_first_concept", "my_second_concept"):
        put_pictures(server, tmp_path_factory.mktemp(folder), folder, [(128, 128)] * 2)
    prompt = to_prompt(workflow("2 Two concepts in one scene"), server.object_info())
    set_inputs(prompt, "CCVD_LearnConcept", steps=5)
    (saver,) = nodes_of(prompt, "SaveVideo")
    outputs = server.run(prompt)["outputs"]
    assert all(concept_file(server, "my_scene", name).is_file() for name in ("rex", "cab"))
    assert len(frames_of(server.output_path(outputs[saver]["images"][0]))) == 9


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_picture_and_names_only_stock_nodes_and_ours(server: ComfyServer, name: str) -> None:
    known = server.object_info()
    types = {node["type"] for node in workflow(name)["nodes"]}
    assert types - known.keys() <= {"MarkdownNote"}
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert min(picture.size) > 500
