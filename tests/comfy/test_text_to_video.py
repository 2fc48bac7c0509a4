"""A text-to-video folder of diffusers in the real ComfyUI: sampled, learned on, with concepts and regions, decoded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from ..tiny_text_to_video import write_text_to_video
from .graphs import Graph, Node, put_clip, put_pictures, run
from .test_regions import LEFT, RIGHT, ROUNDING, draw, sampler

if TYPE_CHECKING:
    from comfy_server import ComfyServer


@pytest.fixture(scope="module", autouse=True)
def folders(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """models/diffusers/tiny, and a folder beside it that is for pictures; pictures and a clip to learn from."""
    place = server.base / "models" / "diffusers"
    write_text_to_video(place / "tiny")
    shutil.copytree(place / "tiny", place / "pictures")
    (place / "pictures" / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    put_pictures(server, tmp_path_factory.mktemp("tiny"), "tiny", [(64, 64)])


def text_to_video(folder: str = "tiny") -> Graph:
    graph = Graph()
    base = graph.add("CCVD_LoadTextToVideo", folder=folder)
    graph.model, graph.clip, graph.vae = (base.out(output) for output in range(3))
    return graph


def empty(graph: Graph) -> list:
    return graph.add("CCVD_EmptyTextToVideo", width=64, height=64, length=5, batch_size=1).out()


def test_the_demo_that_comes_with_the_pack_is_there_from_the_start(server: ComfyServer):
    options = server.object_info()["CCVD_LoadTextToVideo"]["input"]["required"]["folder"][1]["options"]
    assert options[-1].startswith("demo")
    graph = text_to_video(options[-1])
    words = graph.encode("a ball moving right on green grass").out()
    saved = graph.save(graph.sample(graph.model, words, latent_image=empty(graph)))
    assert bool(torch.isfinite(run(server, graph).latent(server, saved)).all())


def test_stock_nodes_sample_it_and_decode_its_frames(server: ComfyServer):
    graph = text_to_video()
    sampled = graph.sample(graph.model, graph.encode("a dog runs").out(), latent_image=empty(graph))
    saved = graph.save(sampled)
    frames = graph.add("PreviewImage", images=graph.add("VAEDecode", samples=sampled.out(), vae=graph.vae).out())
    done = run(server, graph)
    latent = done.latent(server, saved)
    assert latent.shape == (1, 4, 5, 8, 8) and bool(torch.isfinite(latent).all()) and float(latent.std()) > 0.1
    pictures = done.pictures(server, frames)
    assert len(pictures) == 5 and Image.open(pictures[0]).size == (64, 64)


def learned(graph: Graph, **changes: Any) -> Node:
    images = graph.add("LoadImageDataSetFromFolder", folder="tiny")
    return graph.learn(**{"images": images.out(), "library": "tiny", "steps": 2, "learning_rate": 0.05, **changes})


def test_a_concept_is_learned_and_named(server: ComfyServer):
    graph = text_to_video()
    learn = learned(graph, preview_every=1)
    report = graph.show(learn.out(2))
    plain, named = (graph.aggregate(learn, prompt) for prompt in ("a dog runs", "a <rex> runs"))
    stock = graph.encode("a dog runs").out()
    saved = [
        graph.save(graph.sample(model, prompt, latent_image=empty(graph)))
        for model, prompt in ((graph.model, stock), (plain.out(), plain.out(1)), (named.out(), named.out(1)))
    ]
    done = run(server, graph)
    assert "Learned <rex> (subject, 'dog') in 2 steps" in done.text(report)
    assert done.previews, "it shows clips while it learns"
    base, plain_latent, named_latent = (done.latent(server, node) for node in saved)
    assert torch.equal(plain_latent, base), "a prompt without <...> is the base model's"
    assert float((named_latent - base).abs().max()) > 1e-3


def test_a_motion_is_learned_from_a_clip(server: ComfyServer, tmp_path: Path):
    put_clip(server, tmp_path, "tiny_clip", "move.mp4", "mpeg4")
    graph = text_to_video()
    video = graph.add("LoadVideo", file="tiny_clip/move.mp4")
    changes = {"kind": "motion", "class_words": "runs", "name": "hop", "length": 6, "images": None}
    learn = learned(graph, video=video.out(), **changes)
    del graph.nodes[learn.id]["inputs"]["images"]
    report = graph.show(learn.out(2))
    assert "Learned <hop> (motion, 'runs') in 2 steps" in run(server, graph).text(report)


@pytest.mark.parametrize("mode", ["attention", "paper", "paper + bootstrap", "one at a time"])
def test_regions_are_sampled_in_every_mode(server: ComfyServer, mode: str):
    """Two regions with the frame's own prompt change nothing; with another prompt they do, each where it lies."""
    graph = text_to_video()
    learn = learned(graph)
    named = graph.aggregate(learn, "a <rex> runs")
    same, other = (
        graph.aggregate(learn, "a <rex> runs", regions=draw(graph, ("", prompt, LEFT), ("", prompt, RIGHT)).out())
        for prompt in ("a <rex> runs", "a red cat on grass")
    )
    expected = graph.sample(named.out(), named.out(1), latent_image=empty(graph))
    ours = [sampler(graph, scene, mode=mode, latent_image=empty(graph)) for scene in (same, other)]
    saved = [graph.save(node) for node in (expected, *ours)]
    done = run(server, graph)
    plain, identical, different = (done.latent(server, node) for node in saved)
    if mode in ("attention", "paper"):
        torch.testing.assert_close(identical, plain, **ROUNDING)
    assert torch.isfinite(different).all() and float((different - plain).abs().max()) > 1e-3


def test_another_folder_says_what_it_is(server: ComfyServer):
    from comfy_messages import ComfyError

    graph = text_to_video("pictures")
    graph.save(graph.sample(graph.model, graph.encode("a dog").out(), latent_image=empty(graph)))
    with pytest.raises(ComfyError, match="unet holds UNet2DConditionModel and not UNet3DConditionModel"):
        run(server, graph)
