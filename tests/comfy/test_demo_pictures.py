"""Demo Pictures: what comes with the pack to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from .graphs import Graph, Node, Run, concept_file, put_pictures, run

if TYPE_CHECKING:
    from comfy_server import ComfyServer

FOLDER = Path(__file__).resolve().parents[2] / "demo" / "pictures"
INDEX: dict[str, dict[str, str]] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
KIND_OF_MEDIA = {"subject": 5, "motion": 3, "style": 3}
NOTE = "only knows emoji on plain backgrounds"


def demo_pictures(graph: Graph, what: str, name: str = "mimi") -> Node:
    return graph.add("CCVD_DemoPictures", what=what, name=name)


def learn(graph: Graph, images: list[Any], captions: Any, **changes: Any) -> Node:
    return graph.learn(steps=2, images=images, captions=captions, **changes)


def test_every_choice_gives_its_pictures_captions_and_class_words(server: ComfyServer) -> None:
    graph = Graph()
    nodes = {what: demo_pictures(graph, what) for what in INDEX}
    captions = {what: graph.show(node.out(1)) for what, node in nodes.items()}
    words = {what: graph.show(node.out(2)) for what, node in nodes.items()}
    done = run(server, graph)
    for what, concept in INDEX.items():
        lines = [text for item in done.history["outputs"][captions[what].id]["text"] for text in item.splitlines()]
        assert len(lines) == KIND_OF_MEDIA[concept["kind"]]
        assert all("<mimi>" in line and f"<{what}>" not in line for line in lines)
        assert done.text(words[what]) == concept["class_words"]
        assert done.history["outputs"][nodes[what].id]["images"], "the node shows them"


def test_the_pictures_are_the_files_of_the_pack(server: ComfyServer) -> None:
    graph = Graph()
    saved = graph.add("SaveImage", images=demo_pictures(graph, "fox").out(), filename_prefix="demo/fox")
    files = sorted((FOLDER / "fox").glob("*.png"))
    for file, shipped in zip(run(server, graph).pictures(server, saved), files, strict=True):
        with Image.open(file) as one, Image.open(shipped) as other:
            assert one.convert("RGB").tobytes() == other.convert("RGB").tobytes()


@pytest.mark.parametrize("what", ["fox", "hopping", "noir"])
def test_each_kind_can_be_learned_and_is_no_surprise_to_the_demo_model(server: ComfyServer, what: str) -> None:
    """A motion's clips come as their frames, which Learn Concept takes at `images`."""
    graph = Graph()
    pictures = demo_pictures(graph, what, "mimi")
    lesson = learn(
        graph,
        pictures.out(0),
        pictures.out(1),
        name="mimi",
        kind=INDEX[what]["kind"],
        class_words=pictures.out(2),
        library=f"demo_{what}",
    )
    report = graph.show(lesson.out(2))
    done = run(server, graph)
    assert concept_file(server, f"demo_{what}", "mimi").is_file()
    assert NOTE not in done.text(report) and not any(NOTE in text for text in done.texts(lesson))


def test_the_demo_model_says_that_it_cannot_learn_other_pictures(server: ComfyServer, tmp_path: Path) -> None:
    put_pictures(server, tmp_path, "photos", [(160, 120), (128, 128)])
    graph = Graph()
    loaded = graph.add("LoadImageDataSetFromFolder", folder="photos")
    lesson = learn(graph, loaded.out(), "", name="photo", library="photos")
    report = graph.show(lesson.out(2))
    done = run(server, graph)
    assert [line for line in done.text(report).splitlines() if NOTE in line] == [done.text(report).splitlines()[-1]]
    assert any(NOTE in text for text in done.texts(lesson)), "and under the node, before the first step"


def test_a_name_that_cannot_be_written_is_refused(server: ComfyServer) -> None:
    from comfy_messages import ComfyError

    graph = Graph()
    graph.show(demo_pictures(graph, "fox", "my dog").out(1))
    with pytest.raises(ComfyError, match="CCVD_DemoPictures: The concept name 'my dog' cannot be used"):
        run(server, graph, Run())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_help_says_what_everything_is(language: str) -> None:
    pages = Path(__file__).resolve().parents[2] / "js" / "docs"
    page = pages / ("CCVD_DemoPictures.md" if language == "en" else f"CCVD_DemoPictures/{language}.md")
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for what, concept in INDEX.items():
        (row,) = [row for row in rows if what in row.split("|")[1].replace(",", " ").split()]
        assert concept["kind"] in row and f"`{concept['class_words']}`" in row
