"""What an artist may get wrong: every fault is named in plain words, and nothing half-written stays behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from .graphs import Graph, Node, concept_file, files_below, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer


@pytest.fixture(scope="module", autouse=True)
def pictures(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    put_pictures(server, tmp_path_factory.mktemp("bad"), "bad", [(64, 64), (64, 48)])


def learning(**changes: Any) -> Graph:
    graph = Graph()
    images = graph.add("LoadImageDataSetFromFolder", folder="bad")
    graph.learn(**{"images": images.out(), "library": "bad", "steps": 2, **changes})
    return graph


def refused(server: ComfyServer, graph: Graph, words: str) -> None:
    """The graph fails with a message that has these words (a pattern), and no file below models/ccvd has changed."""
    from comfy_messages import ComfyError

    concepts = server.base / "models" / "ccvd"
    before = files_below(concepts)
    with pytest.raises(ComfyError, match=words):
        run(server, graph)
    assert files_below(concepts) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": -1}, r"-1 smaller than min of 0"),
        ({"rank": 513}, r"513 bigger than max of 512"),
        ({"name": "a/b"}, r"concept name 'a/b' cannot be used.*a-z, 0-9"),
        ({"name": "../rex"}, r"concept name '\.\./rex' cannot be used"),
        ({"name": "aux"}, r"'aux' cannot be used: Windows"),
        ({"name": ""}, r"concept name '' cannot be used"),
        ({"library": "../x"}, r"library name '\.\./x' cannot be used.*a-z, 0-9"),
        ({"library": "/tmp/x"}, r"library name '/tmp/x' cannot be used"),
        ({"class_words": "  "}, r"Class words are missing"),
        ({"captions": "a <rex>"}, r"1 captions for 2 pictures.*one line for each"),
        ({"captions": "a <rex>\na <rex>\na <rex>"}, r"3 captions for 2 pictures"),
        ({"captions": "a <rex>\na dog"}, r"'a dog' does not say where the concept is: write <rex>"),
        ({"captions": "a <rex>\na <rex> and a <kit>"}, r"<kit>"),
        ({"noise_from": 0.9, "noise_to": 0.9}, r"range of noise.*noise_from below noise_to"),
    ],
)
def test_learn_concept_refuses(server: ComfyServer, changes: dict[str, Any], words: str) -> None:
    refused(server, learning(**changes), words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", -5, r"steps must be at least 1; got -5"),
        ("rank", 513, r"rank must be between 1 and 512; got 513"),
        ("rank", -1, r"rank must be between 1 and 512; got -1"),
        ("length", -3, r"at least 1 frame; got -3"),
    ],
)
def test_numbers_that_come_by_a_link_are_checked_too(server: ComfyServer, name: str, value: int, words: str) -> None:
    """ComfyUI checks ranges only of values that are typed into the node."""
    graph = learning()
    (learn,) = (node for node in graph.nodes.values() if node["class_type"] == "CCVD_LearnConcept")
    learn["inputs"][name] = graph.add("PrimitiveInt", value=value).out()
    refused(server, graph, words)


def test_nothing_to_learn_from(server: ComfyServer) -> None:
    graph = Graph()
    graph.learn(library="bad")
    refused(server, graph, r"nothing to learn from: connect pictures to `images` or clips to `video`")


def test_a_motion_needs_clips(server: ComfyServer) -> None:
    refused(server, learning(kind="motion", class_words="moving right"), r"motion is learned from clips of at least 5")


def test_pictures_that_are_not_numbers(server: ComfyServer, tmp_path: Path) -> None:
    latent = {"latent_tensor": torch.full((1, 16, 1, 8, 8), torch.nan), "latent_format_version_0": torch.tensor([])}
    safetensors.torch.save_file(latent, tmp_path / "broken.latent")
    server.put_input(tmp_path / "broken.latent")
    graph = Graph()
    decoded = graph.add("VAEDecode", samples=graph.add("LoadLatent", latent="broken.latent").out(), vae=graph.vae)
    graph.learn(images=decoded.out(), library="bad", steps=2)
    refused(server, graph, r"Picture 1 has pixels that are not numbers")


def test_another_text_encoder(server: ComfyServer) -> None:
    """Of an unknown file ComfyUI makes the text encoder of Stable Diffusion 1."""
    folder = server.base / "models" / "text_encoders"
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({"nothing": torch.zeros(1)}, folder / "other.safetensors")
    graph = Graph()
    graph.clip = graph.add("CLIPLoader", clip_name="other.safetensors", type="stable_diffusion", device="default").out()
    graph.show(graph.aggregate(graph.library("bad"), "a dog").out(3))
    refused(server, graph, r"CCVD needs Wan's text encoder \(UMT5\).*CCVD Demo Model's CLIP")


def test_a_file_where_the_library_should_be(server: ComfyServer) -> None:
    concepts = server.base / "models" / "ccvd"
    concepts.mkdir(parents=True, exist_ok=True)
    (concepts / "blocked").write_bytes(b"mine")
    refused(server, learning(library="blocked"), r"a file stands where a folder is expected")
    graph = Graph()
    graph.show(graph.library("blocked").out(1))
    refused(server, graph, r"a file stands where a folder is expected")


def test_a_damaged_concept_does_not_spoil_its_library(server: ComfyServer) -> None:
    run(server, learning(library="partly"))
    whole = concept_file(server, "partly", "rex")
    cut = whole.with_name("cut.safetensors")
    shutil.copyfile(whole, cut)
    with cut.open("r+b") as file:
        file.truncate(whole.stat().st_size // 2)
    graph = Graph()
    shelf = graph.library("partly")
    listing = graph.show(shelf.out(1))
    table = graph.show(graph.aggregate(shelf, "a <rex> on green grass").out(3))
    done = run(server, graph)
    rex, problem = done.text(listing).splitlines()
    assert rex.startswith("1. <rex>") and "not usable" in problem and "cut.safetensors" in problem
    assert "rex" in done.text(table) and "cut" not in done.text(table)
    graph = Graph()
    graph.show(graph.aggregate(graph.library("partly"), "a <cut> on green grass").out(3))
    refused(server, graph, r"<cut>, which cannot be used\. .*cut\.safetensors")
    refused(server, learning(library="partly", name="cut"), r"already a concept file .*cut\.safetensors")
    graph = learning(library="partly", name="kit")
    (learn,) = (Node(name) for name, node in graph.nodes.items() if node["class_type"] == "CCVD_LearnConcept")
    report = graph.show(learn.out(2))
    text = run(server, graph).text(report)
    assert "Not kept apart from: " in text and "cut.safetensors" in text
    assert concept_file(server, "partly", "kit").is_file()


def test_a_line_of_the_adjustments_that_means_nothing(server: ComfyServer) -> None:
    run(server, learning(library="adjusted"))
    for adjust, words in (
        ("rex 0.5\nrex loud", r"Line 2 of the adjustments, 'rex loud'"),
        ("rex 9", r"between -4 and 4; got 9"),
        ("rux 1", r"<rux>.*Known concepts: <rex>"),
    ):
        graph = Graph()
        graph.show(graph.library("adjusted", adjust).out(1))
        refused(server, graph, words)
