"""Region Mask in the real ComfyUI: what it gives, and how it says that something cannot be used."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from .graphs import Graph, Node, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

LEFT = {"t": 0, "box": [0.125, 0.25, 0.25, 0.5]}
RIGHT = {"t": 1, "box": [0.625, 0.25, 0.25, 0.5]}


def layout(*regions: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"version": 1, "width": 64, "height": 64, "regions": list(regions), **changes})


def region_mask(graph: Graph, **changes: Any) -> Node:
    usual = {"layout": "{}", "width": 64, "height": 64, "length": 9, "mask_batch": "regions"}
    return graph.add("CCVD_RegionMask", **{**usual, **changes})


def empty_graph() -> Graph:
    graph = Graph()
    graph.nodes.clear()
    return graph


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def solid_mask(graph: Graph, width: int, height: int, value: float) -> Node:
    return graph.add("SolidMask", value=value, width=width, height=height)


def test_masks_boxes_and_preview_of_drawn_regions(server: ComfyServer) -> None:
    graph = empty_graph()
    node = region_mask(graph, layout=layout({"color": "#ff0000", "keyframes": [LEFT]}, {"keyframes": [RIGHT]}))
    masks = graph.add("PreviewImage", images=graph.add("MaskToImage", mask=node.out(1)).out())
    boxes = graph.show(node.out(2))
    preview = graph.add("PreviewImage", images=node.out(3))
    done = run(server, graph)
    first, second = (pixels(path)[..., 0] for path in done.pictures(server, masks))
    expected = np.zeros((64, 64), np.uint8)
    expected[16:48, 8:24] = 255
    assert np.array_equal(first, expected) and np.array_equal(second, expected[:, ::-1])
    assert json.loads(done.text(boxes)) == [
        [{"x": 8, "y": 16, "width": 16, "height": 32}, {"x": 40, "y": 16, "width": 16, "height": 32}]
    ]
    (shown,) = (pixels(path) for path in done.pictures(server, preview))
    assert shown.shape == (64, 64, 3) and tuple(shown[16, 16]) == (255, 0, 0)


def test_moving_regions_give_boxes_for_every_frame_and_a_sheet(server: ComfyServer) -> None:
    graph = empty_graph()
    node = region_mask(graph, layout=layout({"keyframes": [LEFT, RIGHT]}))
    boxes = graph.show(node.out(2))
    preview = graph.add("PreviewImage", images=node.out(3))
    done = run(server, graph)
    assert [frame[0]["x"] for frame in json.loads(done.text(boxes))] == [8, 12, 16, 20, 24, 28, 32, 36, 40]
    (sheet,) = (pixels(path) for path in done.pictures(server, preview))
    assert sheet.shape[0] > 2 * 64 and sheet.shape[1] > 3 * 64


def test_painted_masks_and_boxes_come_after_the_drawn_ones(server: ComfyServer) -> None:
    graph = empty_graph()
    boxes = region_mask(graph, layout=layout({"keyframes": [RIGHT]})).out(2)
    node = region_mask(
        graph,
        layout=layout({"keyframes": [LEFT]}),
        mask=solid_mask(graph, 32, 16, 1.0).out(),
        boxes=boxes,
        mask_prompts="a <rex>\na <kit>",
    )
    shown = graph.show(node.out(2))
    (frame,) = json.loads(run(server, graph).text(shown))
    assert [box["x"] for box in frame] == [8, 0, 40] and frame[1]["width"] == 64


def test_masks_of_a_video_of_another_length_are_spread_and_it_is_said(server: ComfyServer) -> None:
    graph = empty_graph()
    frames = graph.add("EmptyImage", width=8, height=8, batch_size=5, color=0xFFFFFF)
    masks = graph.add("ImageToMask", image=frames.out(), channel="red")
    node = region_mask(graph, mask=masks.out(), mask_batch="frames", mask_prompts="a <rex>")
    shown = graph.show(node.out(2))
    done = run(server, graph)
    whole = {"x": 0, "y": 0, "width": 64, "height": 64}
    assert json.loads(done.text(shown)) == [[whole]] * 9
    assert any("5 masks for 9 frames: they are spread evenly" in text for text in done.texts(node))


def test_boxes_of_core_nodes_are_taken(server: ComfyServer) -> None:
    graph = empty_graph()
    state = [{"x": 16, "y": 0, "width": 32, "height": 32, "metadata": {}}]
    made = graph.add("CreateBoundingBoxes", width=64, height=64, editor_state={"__value__": state})
    shown = graph.show(region_mask(graph, boxes=made.out(1)).out(2))
    assert json.loads(run(server, graph).text(shown)) == [[{"x": 16, "y": 0, "width": 32, "height": 32}]]


def test_no_regions_give_a_black_mask(server: ComfyServer) -> None:
    graph = empty_graph()
    masks = graph.add("PreviewImage", images=graph.add("MaskToImage", mask=region_mask(graph).out(1)).out())
    (mask,) = (pixels(path) for path in run(server, graph).pictures(server, masks))
    assert mask.shape == (64, 64, 3) and not mask.any()


def test_the_editor_gets_the_frames_of_the_background(server: ComfyServer) -> None:
    graph = empty_graph()
    video = graph.add("EmptyImage", width=1280, height=640, batch_size=30, color=0x336644)
    node = region_mask(graph, background=video.out())
    frames = run(server, graph).history["outputs"][node.id]["ccvd_background"]
    assert len(frames) == 30
    assert pixels(server.output_path(frames[0])).shape == (320, 640, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": 1,', r"layout is damaged"),
        (layout({"keyframes": [{"t": 0, "box": [0, 0, float("nan"), 1]}]}), r"expected a finite number; got NaN"),
        (layout({"keyframes": [{"t": 0, "box": [0, 0, -1, 1]}]}), r"region 1: keyframe 1: box.*between 0 and 2"),
        (layout({"keyframes": [{"t": 7, "box": [0, 0, 1, 1]}]}), r"region 1: keyframe 1: t.*between 0 and 1"),
        (layout(*[{"keyframes": [LEFT]}] * 10_000), r"regions: expected at most 64; got 10000"),
        (layout(version=2), r"version: expected 1; got 2; a newer pack"),
        (layout({"keyframes": "none"}), r"region 1: keyframes: expected a list"),
        ("7", r"the layout: expected a table"),
    ],
    ids=["cut off", "NaN", "negative", "t", "10000 regions", "newer", "wrong type", "a number"],
)
def test_a_layout_that_cannot_be_used_is_refused_before_anything_runs(
    server: ComfyServer, text: str, words: str
) -> None:
    from comfy_messages import ComfyError

    graph = empty_graph()
    region_mask(graph, layout=text)
    with pytest.raises(ComfyError, match=words) as error:
        server.post_prompt(graph.nodes, "test")
    assert error.value.node_type == "CCVD_RegionMask"


def test_a_layout_may_come_from_a_text_node(server: ComfyServer) -> None:
    graph = empty_graph()
    text = graph.add("PrimitiveStringMultiline", value=layout({"keyframes": [LEFT]}))
    shown = graph.show(region_mask(graph, layout=text.out()).out(2))
    assert json.loads(run(server, graph).text(shown)) == [[{"x": 8, "y": 16, "width": 16, "height": 32}]]


def test_a_text_that_is_no_layout_is_refused_when_it_comes(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = empty_graph()
    region_mask(graph, layout=graph.add("PrimitiveString", value="a <rex>").out())
    with pytest.raises(ComfyError, match="The region layout is damaged") as error:
        run(server, graph)
    assert error.value.node_type == "CCVD_RegionMask"


def test_fifty_megabytes_of_layout_are_refused(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = empty_graph()
    region_mask(graph, layout="[" * 50_000_000)
    with pytest.raises(ComfyError, match="at most 2000000 characters; got 50000000"):
        server.post_prompt(graph.nodes, "test")


def test_masks_that_cannot_be_used(server: ComfyServer, tmp_path: Path) -> None:
    from comfy_messages import ComfyError

    graph = empty_graph()
    region_mask(graph, mask=solid_mask(graph, 8, 8, 0.0).out())
    with pytest.raises(ComfyError, match="On mask 1 nothing is painted"):
        run(server, graph)

    latent = {"latent_tensor": torch.full((1, 16, 1, 8, 8), torch.nan), "latent_format_version_0": torch.tensor([])}
    safetensors.torch.save_file(latent, tmp_path / "nan.latent")
    server.put_input(tmp_path / "nan.latent")
    graph = Graph()
    decoded = graph.add("VAEDecode", samples=graph.add("LoadLatent", latent="nan.latent").out(), vae=graph.vae)
    region_mask(graph, mask=graph.add("ImageToMask", image=decoded.out(), channel="red").out())
    with pytest.raises(ComfyError, match="not numbers"):
        run(server, graph)

    del graph.nodes[str(len(graph.nodes))]
    region_mask(graph, background=decoded.out())
    with pytest.raises(ComfyError, match="`background` has pixels that are not numbers"):
        run(server, graph)


def test_the_editor_learns_which_concepts_there_are(server: ComfyServer, tmp_path: Path) -> None:
    put_pictures(server, tmp_path, "regions", [(64, 64)])
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="regions")
    graph.learn(images=images.out(), library="shelf", name="rex", steps=1)
    run(server, graph)
    (server.base / "models" / "ccvd" / "Not A Library").mkdir()
    assert server._get("/ccvd/concepts?library=shelf") == {"libraries": {"shelf": ["rex"]}, "problems": {}}
    everything = server._get("/ccvd/concepts")["libraries"]
    assert everything["shelf"] == ["rex"] and "Not A Library" not in everything
    assert server._get("/ccvd/concepts?library=unknown") == {"libraries": {"unknown": []}, "problems": {}}
    with pytest.raises(urllib.error.HTTPError) as error:
        server._get("/ccvd/concepts?library=../..")
    assert error.value.code == 400 and "cannot be used" in json.load(error.value)["error"]
