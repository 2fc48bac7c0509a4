"""Region Mask's frames for the editor, and the route by which it follows an object through them."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.backbones.pack import from_pack

pytestmark = pytest.mark.usefixtures("backbones")
"""Which puts ComfyUI on the path."""

WIDE, HIGH, SPRITE, FRAMES = 96, 64, 24, 9


def left_at(frame: int) -> int:
    return 8 + 6 * frame


def moving_clip() -> torch.Tensor:
    """A square of coloured checks that moves right over green: [frames, height, width, 3]."""
    clip = torch.full((FRAMES, HIGH, WIDE, 3), 0.3)
    clip[..., 1] = 0.6
    checks = (
        torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(1)).repeat_interleave(8, 0).repeat_interleave(8, 1)
    )
    for frame in range(FRAMES):
        clip[frame, 20 : 20 + SPRITE, left_at(frame) : left_at(frame) + SPRITE] = checks
    return clip


@pytest.fixture
def temporary(tmp_path: Path, backbones: Any) -> Any:
    """ComfyUI's temporary folder, an empty one."""
    import folder_paths

    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    yield tmp_path / "temp"
    folder_paths.set_temp_directory(before)


def run_node(background: torch.Tensor) -> list[dict[str, str]]:
    node = from_pack("nodes.region_mask").RegionMask
    out = node.execute("{}", WIDE, HIGH, FRAMES, "regions", background=background)
    return out.ui["ccvd_background"]


class Request:
    def __init__(self, body: Any) -> None:
        self.body = body

    async def json(self) -> Any:
        return json.loads(self.body) if isinstance(self.body, str) else self.body


def ask(body: Any) -> tuple[int, Any]:
    response = asyncio.run(from_pack("nodes.host.routes").follow(Request(body)))
    return response.status, json.loads(response.text)


def request(names: list[str], **others: Any) -> dict[str, Any]:
    box = [left_at(0) / WIDE, 20 / HIGH, SPRITE / WIDE, SPRITE / HIGH]
    return {"pictures": names, "box": box, "t": 0, "frames": FRAMES, **others}


def test_the_editor_gets_every_frame_of_a_clip_as_a_small_picture(temporary: Path) -> None:
    sent = run_node(torch.rand(30, 64, 1280, 3))
    assert len(sent) == 30 and {(one["subfolder"], one["type"]) for one in sent} == {("", "temp")}
    with Image.open(temporary / sent[0]["filename"]) as picture:
        assert picture.size == (640, 32)


def test_of_a_long_clip_the_editor_gets_frames_spread_over_all_of_it(temporary: Path) -> None:
    shades = torch.linspace(0, 1, 400)[:, None, None, None].expand(400, 16, 16, 3)
    sent = run_node(shades)
    assert len(sent) == 161
    pixels = [np.asarray(Image.open(temporary / one["filename"]))[8, 8, 0] / 255 for one in sent]
    assert np.abs(np.asarray(pixels) - np.linspace(0, 1, 161)).max() < 0.01


def test_two_runs_do_not_mix_their_frames(temporary: Path) -> None:
    first, second = run_node(moving_clip()), run_node(moving_clip())
    assert not {one["filename"] for one in first} & {one["filename"] for one in second}


def test_following_gives_keyframes_on_the_object(temporary: Path) -> None:
    names = [one["filename"] for one in run_node(moving_clip())]
    status, found = ask(request(names))
    assert status == 200 and found["lost"] == {"before": "", "after": ""} and found["range"] == [0, 1]
    assert [key["t"] for key in found["keyframes"]] == [0, 1]
    for key, frame in zip(found["keyframes"], (0, FRAMES - 1), strict=True):
        x, y, width, height = key["box"]
        assert [x * WIDE, (x + width) * WIDE] == pytest.approx([left_at(frame), left_at(frame) + SPRITE], abs=2)
        assert [y * HIGH, (y + height) * HIGH] == pytest.approx([20, 20 + SPRITE], abs=2)


def test_what_the_route_gives_is_a_layout_that_the_node_takes(temporary: Path) -> None:
    names = [one["filename"] for one in run_node(moving_clip())]
    _, found = ask(request(names, frames=81))
    layout = {"version": 1, "width": WIDE, "height": HIGH, "regions": [{"keyframes": found["keyframes"]}]}
    (region,) = from_pack("ccvd_core.regions.layout").parse_layout(json.dumps(layout)).regions
    assert region.box_at(0.5)[0] * WIDE == pytest.approx(left_at(4), abs=2)


def test_a_lost_object_is_told(temporary: Path) -> None:
    clip = moving_clip()
    clip[6:] = clip[6:, :, :1]
    names = [one["filename"] for one in run_node(clip)]
    status, found = ask(request(names))
    assert status == 200 and found["lost"] == {"before": "", "after": "hidden"}
    assert found["range"] == [0, 5 / 8] and found["keyframes"][-1]["t"] == 0.625


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pictures": ["../../../etc/passwd", "x"]}, "frames that Region Mask sent"),
        ({"pictures": ["ccvd_background_0123456789abcdef_00000.jpg"] * 162}, "2 to 161 frames"),
        ({"pictures": "all"}, "list of names"),
        ({"pictures": ["ccvd_background_0123456789abcdef_00000.jpg"] * 2}, "no longer there.*Queue this node again"),
        ({"box": [0, 0, 1]}, r"\[x, y, width, height\]"),
        ({"box": [0, 0, 0, 1]}, "fractions of the frame"),
        ({"box": [0, 0, "1", 1]}, "ordinary numbers"),
        ({"t": 1.5}, "a time in 0..1"),
        ({"t": None}, "ordinary numbers"),
        ({"frames": 1}, "2 to 10000"),
        ({"frames": 8.5}, "whole number"),
        ({"frames": 10**9}, "`frames`"),
        ({"box": [0.8, 0.8, 0.15, 0.15]}, "all of one colour"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_says_why(temporary: Path, change: Any, words: str) -> None:
    names = [one["filename"] for one in run_node(moving_clip())]
    status, found = ask(request(names, **change))
    assert status == 400
    assert re.search(words, found["error"]), found["error"]


@pytest.mark.parametrize("body", ["{", "[]", "7", '{"t": NaN}'])
def test_what_is_no_request_is_refused(temporary: Path, body: str) -> None:
    status, found = ask(body)
    assert status == 400 and found["error"]


def test_a_picture_of_another_kind_or_size_is_not_read(temporary: Path) -> None:
    temporary.mkdir(exist_ok=True)
    names = [f"ccvd_background_{'0' * 16}_{number:05}.jpg" for number in (0, 1)]
    Image.new("RGB", (700, 700)).save(temporary / names[0], "JPEG")
    Image.new("RGB", (64, 64)).save(temporary / names[1], "PNG")
    assert "larger than Region Mask's frames" in ask(request(names))[1]["error"]
    assert "no longer there" in ask(request(names[::-1]))[1]["error"]


def test_the_server_answers_others_while_an_object_is_followed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = from_pack("nodes.host.following")
    answered = threading.Event()
    waited: list[bool] = []

    def slow(request: Any) -> dict[str, Any]:
        waited.append(answered.wait(20))
        return {}

    monkeypatch.setattr(following, "answer", slow)
    names = [f"ccvd_background_{'0' * 16}_{number:05}.jpg" for number in (0, 1)]

    async def both() -> Any:
        task = asyncio.create_task(from_pack("nodes.host.routes").follow(Request(request(names))))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, answered.set)
        return await task

    assert asyncio.run(both()).status == 200
    assert waited == [True], "in the server's thread nothing could have answered"
