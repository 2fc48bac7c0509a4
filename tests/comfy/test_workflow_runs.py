"""A saved workflow, converted with the real node definitions, runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfy_server import ComfyServer

RED_CLIP: dict[str, Any] = {
    "nodes": [
        {"id": 1, "type": "EmptyImage", "widgets_values": [64, 48, 5, 0xFF0000], "inputs": []},
        {
            "id": 2,
            "type": "CreateVideo",
            "widgets_values": [8, 8],
            "inputs": [
                {"name": "images", "type": "IMAGE", "link": 1},
                {"name": "audio", "type": "AUDIO", "link": None},
            ],
        },
        {
            "id": 3,
            "type": "SaveVideo",
            "widgets_values": ["video/red", "mp4", "h264", "re-encode", 20],
            "inputs": [{"name": "video", "type": "VIDEO", "link": 2}],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "VIDEO"]],
}


def test_stock_nodes_with_nested_choices(server: ComfyServer) -> None:
    import av
    from workflow import to_prompt

    prompt = to_prompt(RED_CLIP, server.object_info())
    assert prompt["3"]["inputs"]["codec.encoding.crf"] == 20
    (entry,) = server.run(prompt)["outputs"]["3"]["images"]
    with av.open(server.output_path(entry)) as clip:
        stream = clip.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 48, 8)
        assert len(list(clip.decode(stream))) == 5


def test_seed_and_upload_values_with_the_real_definitions(server: ComfyServer) -> None:
    from workflow import widget_values

    info = server.object_info()
    sampler = {"id": 1, "type": "KSampler", "widgets_values": [7, "randomize", 20, 6.0, "euler", "simple", 0.5]}
    assert widget_values(sampler, info["KSampler"]) == {
        "seed": 7,
        "steps": 20,
        "cfg": 6.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 0.5,
    }
    for type_, name in (("LoadImage", "image"), ("LoadVideo", "file")):
        loader = {"id": 1, "type": type_, "widgets_values": ["x", "image"]}
        assert widget_values(loader, info[type_]) == {name: "x"}
