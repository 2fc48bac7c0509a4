"""The example workflows as they are shipped: queue exactly their graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
from PIL import Image

from .graphs import concept_file, nodes_of

if TYPE_CHECKING:
    from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def workflow(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def frames_of(video: Path) -> list[Any]:
    with av.open(video) as clip:
        return [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]


def test_it_learns_and_makes_a_video(server: ComfyServer) -> None:
    """The graph as it is, with nothing prepared, but for the learning steps: all of them take minutes."""
    from workflow import set_widgets, to_prompt

    shipped = workflow("1 Learn a concept and make a video")
    set_widgets(shipped, server.object_info(), "CCVD_LearnConcept", steps=5)
    prompt = to_prompt(shipped, server.object_info())
    (saver,) = nodes_of(prompt, "SaveVideo")
    outputs = server.run(prompt)["outputs"]
    assert concept_file(server, "my_concepts", "rex").is_file()
    (video,) = outputs[saver]["images"]
    assert video["filename"].startswith("rex_") and video["subfolder"] == "ccvd", "named after the concept"
    frames = frames_of(server.output_path(video))
    assert len(frames) == 9 and frames[0].shape == (128, 128, 3)
    (aggregate,) = nodes_of(prompt, "CCVD_AggregateAdapters")
    assert outputs[aggregate]["images"], "the relevance heat map is shown in the node"
    (pictures,) = nodes_of(prompt, "CCVD_DemoPictures")
    assert len(outputs[pictures]["images"]) == 5, "so are the pictures that it learns from"


def test_it_learns_two_concepts_and_puts_each_in_its_region(server: ComfyServer) -> None:
    """The graph as it is, with nothing prepared, but for the learning steps."""
    from workflow import set_widgets, to_prompt

    shipped = workflow("2 Two concepts in one scene")
    set_widgets(shipped, server.object_info(), "CCVD_LearnConcept", steps=5)
    prompt = to_prompt(shipped, server.object_info())
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
        assert min(picture.size) >= 400
