"""The real ComfyUI with this pack, started once for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Not the repository's root: there our `nodes` would hide ComfyUI's nodes.py.
sys.path.insert(0, str(REPOSITORY / "scripts"))

from comfy_server import ComfyServer  # noqa: E402
from environment import ensure_environment  # noqa: E402
from processes import sigterm_is_ctrl_c  # noqa: E402


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """ComfyUI's folder."""
    return ensure_environment().comfyui


@pytest.fixture(scope="session")
def server(comfyui: Path) -> Iterator[ComfyServer]:
    with sigterm_is_ctrl_c(), ComfyServer(comfyui) as server:
        yield server


@pytest.fixture(scope="session")
def scenes_library(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library `scenes` with the concepts <rex>, a dog, and <kit>, a cat."""
    from .graphs import Graph, put_pictures, run

    put_pictures(server, tmp_path_factory.mktemp("scenes"), "scenes", [(64, 64), (64, 64)])
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="scenes").out()
    first = graph.learn(images=images, library="scenes")
    graph.learn(images=images, library="scenes", name="kit", class_words="cat", seed=1, after=first.out())
    run(server, graph)
    return "scenes"
