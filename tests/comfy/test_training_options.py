"""Training Options and masks in the real ComfyUI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .graphs import Graph, Node, concept_file, put_pictures, run
from .test_bad_input import refused
from .test_learning import metadata

if TYPE_CHECKING:
    from comfy_server import ComfyServer

USUAL: dict[str, Any] = {
    "optimizer": "adamw",
    "batch": 0,
    "weight_decay": 0.01,
    "timesteps": "usual",
    "caption_dropout": 0.0,
    "ema": 0.0,
    "frame_offset": 0.0,
    "unmasked": 0.1,
    "layers": "usual",
    "class_weight": 0.0,
    "class_pictures": 8,
    "keep": "last",
    "validate_every": 50,
}


@pytest.fixture(scope="module")
def pictures(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    put_pictures(server, tmp_path_factory.mktemp("options"), "options", [(64, 64), (64, 48)])


def options(graph: Graph, **changes: Any) -> Node:
    return graph.add("CCVD_TrainingOptions", **{**USUAL, **changes})


def lesson(graph: Graph, library: str, **changes: Any) -> Node:
    images = graph.add("LoadImageDataSetFromFolder", folder="options")
    return graph.learn(images=images.out(), library=library, steps=3, **changes)


def settings_of(server: ComfyServer, library: str) -> dict[str, Any]:
    return json.loads(metadata(concept_file(server, library, "rex"))["ccvd.settings"])


@pytest.mark.usefixtures("pictures")
def test_what_is_chosen_is_what_it_learns_with(server: ComfyServer) -> None:
    graph = Graph()
    chosen = options(
        graph, optimizer="adafactor", batch=2, timesteps="high noise", caption_dropout=0.5, ema=0.9, frame_offset=0.1,
        layers="queries and keys", class_weight=0.5, class_pictures=1,
    )  # fmt: skip
    lesson(graph, "chosen", options=chosen.out())
    run(server, graph)
    found = settings_of(server, "chosen")
    assert (found["optimizer"], found["batch"], found["time_shift"]) == ("adafactor", 2, 5.0)
    assert (found["layers"], found["class_weight"], found["class_pictures"]) == ("queries and keys", 0.5, 1)
    assert (found["caption_dropout"], found["ema"], found["frame_offset"]) == (0.5, 0.9, 0.1)


@pytest.mark.usefixtures("pictures")
def test_the_best_step_is_kept_and_said(server: ComfyServer) -> None:
    graph = Graph()
    chosen = options(graph, keep="best", validate_every=1)
    learn = lesson(graph, "best", options=chosen.out())
    report = graph.show(learn.out(2))
    done = run(server, graph)
    found = settings_of(server, "best")
    assert found["kept_step"] in (1, 2, 3) and found["held_out"] == 0
    assert f"Kept step {found['kept_step']}, the best: validation loss" in done.text(report)


@pytest.mark.usefixtures("pictures")
def test_options_that_change_nothing_change_nothing(server: ComfyServer) -> None:
    graph = Graph()
    lesson(graph, "plain")
    lesson(graph, "usual", options=options(graph).out())
    run(server, graph)
    assert settings_of(server, "plain") | {"job": ""} == settings_of(server, "usual") | {"job": ""}
    one, other = (concept_file(server, name, "rex").read_bytes() for name in ("plain", "usual"))
    assert one[-4096:] == other[-4096:], "the same adapters"


@pytest.mark.usefixtures("pictures")
def test_masks_change_what_is_learned_and_must_be_as_many(server: ComfyServer) -> None:
    graph = Graph()
    white, black = (graph.add("SolidMask", value=value, width=32, height=32) for value in (1.0, 0.0))
    half = graph.add("MaskComposite", destination=black.out(), source=white.out(), x=16, y=0, operation="add")
    both = graph.add("MaskComposite", destination=half.out(), source=black.out(), x=0, y=0, operation="add")
    batch = graph.add("MaskToImage", mask=both.out())
    twice = graph.add("RepeatImageBatch", image=batch.out(), amount=2)
    masks = graph.add("ImageToMask", image=twice.out(), channel="red")
    lesson(graph, "unmasked")
    lesson(graph, "masked", masks=masks.out(), options=options(graph, unmasked=0.0).out())
    run(server, graph)
    one, other = (concept_file(server, name, "rex").read_bytes()[-4096:] for name in ("unmasked", "masked"))
    assert one != other
    graph = Graph()
    single = graph.add("SolidMask", value=1.0, width=32, height=32)
    lesson(graph, "refused", masks=single.out())
    refused(server, graph, "There are 1 masks for 2 pictures or clips")


@pytest.mark.usefixtures("pictures")
def test_a_package_that_is_missing_is_said_before_anything_is_learned(server: ComfyServer) -> None:
    graph = Graph()
    lesson(graph, "missing", options=options(graph, optimizer="prodigy").out())
    refused(server, graph, r"needs the package prodigyopt.*pip install prodigyopt")
