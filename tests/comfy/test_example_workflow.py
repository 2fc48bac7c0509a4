"""The example workflows as they are shipped: queue exactly their graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from .graphs import DEMO_MODEL, Graph, concept_file, nodes_of, put_pictures, run

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


def put_image_to_video_model(server: ComfyServer, name: str) -> None:
    """The demo model in the layout of image to video: 20 channels behind the latents, which it does not look at."""
    place = server.base / "models" / "diffusion_models"
    place.mkdir(parents=True, exist_ok=True)
    with safe_open(DEMO_MODEL, "pt") as file:
        weights, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    first = weights["patch_embedding.weight"]
    behind = torch.zeros(first.shape[0], 20, *first.shape[2:], dtype=first.dtype)
    save_file({**weights, "patch_embedding.weight": torch.cat([first, behind], 1)}, place / name, metadata)


def test_a_start_picture_goes_on_as_a_video_with_its_concept_in_a_region(server: ComfyServer, tmp_path: Path) -> None:
    """The graph as it is, small and with a small model of its layout; the demo's text encoder and VAE go with that."""
    from workflow import set_widgets, to_prompt

    put_pictures(server, tmp_path, "start", [(64, 64)])
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="start")
    graph.learn(images=images.out(), library="start_picture", steps=2)
    run(server, graph)

    shipped, info = workflow("4 Image to video"), server.object_info()
    (loader,) = (node for node in shipped["nodes"] if node["type"] == "UNETLoader")
    put_image_to_video_model(server, loader["widgets_values"][0])
    small = {"width": 64, "height": 64, "length": 5}
    for kind, changes in {
        "WanImageToVideo": small,
        "CCVD_RegionMask": small,
        "CCVD_ConceptLibrary": {"library": "start_picture"},
        "CCVD_Sampler": {"steps": 2},
        "LoadImage": {"image": "start/0.png"},
    }.items():
        set_widgets(shipped, info, kind, **changes)
    prompt = to_prompt(shipped, info)
    demo = "demo"
    prompt[demo] = {"class_type": "CCVD_DemoModel", "inputs": {"shift": 3.0}}
    instead = {nodes_of(prompt, kind)[0]: output for kind, output in (("CLIPLoader", 1), ("VAELoader", 2))}
    # Models of this size have no CLIP Vision.
    gone = {node for kind in ("CLIPVisionLoader", "CLIPVisionEncode") for node in nodes_of(prompt, kind)}
    for node in prompt.values():
        for name, link in list(node["inputs"].items()):
            if isinstance(link, list) and link[0] in instead:
                node["inputs"][name] = [demo, instead[link[0]]]
            elif isinstance(link, list) and link[0] in gone:
                del node["inputs"][name]
    prompt = {key: node for key, node in prompt.items() if key not in gone | instead.keys()}
    outputs = server.run(prompt)["outputs"]
    frames = frames_of(server.output_path(outputs[nodes_of(prompt, "SaveVideo")[0]]["images"][0]))
    assert len(frames) == 5 and frames[0].shape == (64, 64, 3)
    assert outputs[nodes_of(prompt, "CCVD_RegionMask")[0]]["ccvd_background"], "the start picture is under the regions"


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_picture_and_names_only_stock_nodes_and_ours(server: ComfyServer, name: str) -> None:
    known = server.object_info()
    types = {node["type"] for node in workflow(name)["nodes"]}
    assert types - known.keys() <= {"MarkdownNote"}
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert min(picture.size) >= 400
