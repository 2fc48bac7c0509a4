"""The pack in the real ComfyUI: it loads, cleanly and cheaply, and a graph runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from comfy_server import ComfyServer

REPOSITORY = Path(__file__).resolve().parents[2]

HEAVY = ("diffusers", "peft", "accelerate")
"""Libraries that ComfyUI does not import itself, and that take seconds: they must wait until a node runs."""

LIST_THE_NODES = """
import asyncio, importlib.util, json, sys, time
comfyui, pack = sys.argv[1:]
sys.path.insert(0, comfyui)
sys.argv = sys.argv[:1]
import comfy.cli_args
comfy.cli_args.args.cpu = True
import comfy_api.latest, nodes, server
before = set(sys.modules)
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("ccvd_pack", pack + "/__init__.py", submodule_search_locations=[pack])
module = importlib.util.module_from_spec(spec)
sys.modules["ccvd_pack"] = module
spec.loader.exec_module(module)
async def node_ids():
    extension = await module.comfy_entrypoint()
    return [node.GET_SCHEMA().node_id for node in await extension.get_node_list()]
nodes = asyncio.run(node_ids())
seconds = time.perf_counter() - start
added = sorted({name.split(".")[0] for name in set(sys.modules) - before})
print(json.dumps({"nodes": nodes, "seconds": seconds, "added": added}))
"""


@pytest.fixture(scope="module")
def fresh_import(comfyui: Path) -> dict[str, Any]:
    """What importing the pack and listing its nodes adds to a process that has imported ComfyUI already."""
    result = subprocess.run(
        [sys.executable, "-c", LIST_THE_NODES, str(comfyui), str(REPOSITORY)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_nothing_fails_to_import(server: ComfyServer) -> None:
    assert server.import_failures() == []
    assert "Cannot import" not in server.log


def test_every_node_is_registered_under_our_prefix_and_category(
    server: ComfyServer, fresh_import: dict[str, Any]
) -> None:
    registered = server.object_info()
    for node_id in fresh_import["nodes"]:
        assert node_id.startswith("CCVD_")
        assert registered[node_id]["category"].split("/")[0] == "CCVD"
    ours = {node_id for node_id, info in registered.items() if info["python_module"].endswith(".ccvd")}
    assert ours == set(fresh_import["nodes"])


@pytest.mark.parametrize(
    ("words", "node_id"),
    [
        ("lora", "CCVD_LearnConcept"),
        ("train", "CCVD_LearnConcept"),
        ("dreambooth", "CCVD_LearnConcept"),
        ("character", "CCVD_LearnConcept"),
        ("lora", "CCVD_AggregateAdapters"),
        ("regional prompt", "CCVD_RegionMask"),
    ],
)
def test_the_words_that_artists_search_for_lead_here(server: ComfyServer, words: str, node_id: str) -> None:
    assert words in server.object_info()[node_id]["search_aliases"]


def test_every_node_has_words_to_be_found_by(server: ComfyServer, fresh_import: dict[str, Any]) -> None:
    registered = server.object_info()
    assert [node_id for node_id in fresh_import["nodes"] if not registered[node_id].get("search_aliases")] == []


def test_importing_the_pack_imports_no_heavy_library(fresh_import: dict[str, Any]) -> None:
    print(f"importing the pack took {fresh_import['seconds']:.2f} s and added {len(fresh_import['added'])} packages")
    assert not set(HEAVY) & set(fresh_import["added"])


def test_the_javascript_is_served(server: ComfyServer) -> None:
    scripts = sorted((REPOSITORY / "js").rglob("*.js"))
    served = {name for name in server._get("/extensions") if name.startswith("/extensions/ccvd/")}
    assert served == {f"/extensions/ccvd/{path.relative_to(REPOSITORY / 'js').as_posix()}" for path in scripts}


def solid_colour(width: int) -> dict[str, dict[str, Any]]:
    """A graph of two stock nodes."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": width, "height": 32, "batch_size": 1, "color": 0xFF0000},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "red"}},
    }


def test_a_graph_runs_and_its_picture_is_there(server: ComfyServer) -> None:
    events: list[str] = []
    history = server.run(solid_colour(48), lambda kind, data: events.append(kind))
    (entry,) = history["outputs"]["2"]["images"]
    assert server.output_path(entry).is_file()
    assert "executed" in events


def test_a_faulty_graph_names_the_node_and_the_fault(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    with pytest.raises(ComfyError, match="width") as error:
        server.run(solid_colour(-1))
    assert error.value.node_type == "EmptyImage"
