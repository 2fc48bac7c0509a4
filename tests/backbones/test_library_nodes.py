"""What the nodes show of a library: foreign previews, many concepts, misspelt names, damage; and the editor's route."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.concept import BaseFingerprint, Concept, LowRank
from ccvd_core.concepts.file import save_concept
from tests.backbones.pack import from_pack

pytestmark = pytest.mark.usefixtures("backbones")
"""Which puts ComfyUI on the path."""


def picture_bytes(kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 40)).save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A black PNG of one bit per pixel, which takes a thousandth of what it decodes to."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n"
BAD = {
    "eps": EPS,
    "huge png": png_of(13_300, 13_300),
    "huge webp": picture_bytes("WEBP", (4000, 300), lossless=True),
    "garbage": b"\x00\xffpicture",
    "empty": b"",
    "cut png": picture_bytes("PNG")[:60],
    "cut webp": picture_bytes("WEBP")[:40],
    "gif": picture_bytes("GIF"),
    "jpeg": picture_bytes("JPEG"),
    "tiff": picture_bytes("TIFF"),
}


def learned(name: str = "rex", preview: bytes | None = None) -> Concept:
    ones = torch.ones(1, 4)
    return Concept(
        name, "subject", "dog", {}, ones[None], ones, ones, BaseFingerprint("x", (1.0,)), 1, {}, preview=preview
    )


# Previews


@pytest.mark.parametrize("case", BAD)
def test_a_preview_that_is_no_small_webp_or_png_is_not_shown(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("ran a program"))
    previews = from_pack("nodes.host.previews")
    assert previews.decode_preview(BAD[case]) is None


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_a_size_is_looked_at_before_a_pixel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    previews = from_pack("nodes.host.previews")
    assert previews.decode_preview(picture_bytes(kind)).size == (64, 48)
    monkeypatch.setattr(previews, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(Image.Image, "convert", lambda *args: pytest.fail("decoded it"))
    assert previews.decode_preview(picture_bytes(kind)) is None


def test_one_bad_preview_does_not_spoil_the_others(tmp_path: Path) -> None:
    previews = from_pack("nodes.host.previews")
    names = [f"bad{number}" for number in range(len(BAD))]
    picture, unseen = previews.preview_grid([("good", picture_bytes("WEBP")), *zip(names, BAD.values(), strict=True)])
    assert unseen == names and picture.shape == (1, 4 + 128 + 18 + 4, 136, 3)
    assert (picture[0, 24, 40] - torch.tensor([200, 30, 40]) / 255).abs().max() < 0.05
    assert previews.preview_grid([("bad", b"x")]) == (None, ["bad"])
    assert previews.preview_grid([]) == (None, [])


def test_the_grid_of_a_large_library_is_bounded() -> None:
    previews = from_pack("nodes.host.previews")
    preview = picture_bytes("PNG")
    picture, unseen = previews.preview_grid([(f"c{number}", preview) for number in range(1000)])
    assert not unseen and picture.numel() * 4 < 20e6
    small, _ = previews.preview_grid([(f"c{number}", preview) for number in range(5)])
    assert small.shape == (1, 4 + 2 * (128 + 18 + 4), 4 + 4 * 132, 3)


# Concept Library


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's models/ccvd."""
    types = from_pack("nodes.host.libraries")
    monkeypatch.setattr(types, "model_folder", lambda: tmp_path)
    return tmp_path


def put(models: Path, library: str, *concepts: Concept) -> None:
    (models / library).mkdir(exist_ok=True)
    for concept in concepts:
        save_concept(concept, models / library / f"{concept.name}.safetensors")


def listing(monkeypatch: pytest.MonkeyPatch, library: str, adjust: str = "") -> tuple[Any, str, Any]:
    """(selection, listing, picture) of Concept Library."""
    node = from_pack("nodes.concept_library")
    monkeypatch.setattr(node.ui, "PreviewImage", lambda picture, cls: picture)
    output = node.ConceptLibraryNode.execute(library, adjust)
    return (*output.args, output.ui)


def test_bad_previews_and_files_are_listed_beside_the_good(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models, "zoo", learned("rex", picture_bytes("WEBP")), learned("eps", EPS), learned("plain"))
    (models / "zoo" / "cut.safetensors").write_bytes(b"12")
    selection, text, picture = listing(monkeypatch, "zoo", "<REX> = 0.5\nplain off")
    lines = dict(line.split(". ", 1)[1].split("  ", 1) for line in text.splitlines()[:3])
    assert lines["<rex>"].endswith("strength 0.5") and lines["<plain>"].endswith("off")
    assert lines["<eps>"].endswith("its preview cannot be shown")
    assert "cut.safetensors" in text.splitlines()[3]
    assert selection.adjusted.off == {"plain"} and selection.adjusted.strengths == {"rex": 0.5}
    assert picture.shape == (1, 4 + 128 + 18 + 4, 136, 3)


def test_the_listing_of_many_unusable_files_is_bounded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models, "zoo")
    for number in range(100):
        (models / "zoo" / f"c{number}.safetensors").write_bytes(b"x")
    _, text, _ = listing(monkeypatch, "zoo")
    assert text.count("not usable:") == 20 and text.endswith("and 80 more files that are not usable")


def test_a_misspelt_library_names_what_there_is(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models, "my_concepts", learned("mimi"))
    put(models, "zoo", learned("rex"))
    node = from_pack("nodes.concept_library").ConceptLibraryNode
    before = node.fingerprint_inputs("my_concpts", "")
    selection, text, picture = listing(monkeypatch, "my_concpts")
    assert "'my_concpts' is empty" in text and "Did you mean 'my_concepts'?" in text
    assert "'my_concepts', 'zoo'" in text
    assert float(picture.std()) > 0.01, "the text, not a black square"
    with pytest.raises(
        ValueError, match=r"<mimi>, but there is no concept library 'my_concpts'. Did you mean 'my_conc"
    ):
        selection.check_known(["mimi"])
    put(models, "third", learned("kit"))
    assert node.fingerprint_inputs("my_concpts", "") != before, "so that it is not answered from the cache"


def test_why_a_name_cannot_be_used(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(models, "zoo", learned("mimi"), learned("rex"))
    put(models, "bare")
    (models / "zoo" / "cut.safetensors").write_bytes(b"12")
    selection, _, _ = listing(monkeypatch, "zoo", "rex off")
    selection.check_known(["mimi"])
    for name, words in {
        "mimmi": r"<mimmi>, which is not in the concept library 'zoo'. Did you mean <mimi>\? Known concepts: <mimi>",
        "rex": r"<rex>, which is switched off \('rex off' in Concept Library\)",
        "cut": r"<cut>, which cannot be used. The concept file .*cut\.safetensors|cut\.safetensors is not a concept",
    }.items():
        with pytest.raises(ValueError, match=words):
            selection.check_known([name])
    with pytest.raises(ValueError, match=r"The adjustments name <mimmi>.*Did you mean <mimi>"):
        listing(monkeypatch, "zoo", "mimmi 0.5")
    selection, _, _ = listing(monkeypatch, "bare")
    with pytest.raises(ValueError, match=r"<rex>, but the concept library 'bare' is empty.*'zoo'"):
        selection.check_known(["rex"])


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), 4.5])
def test_a_selection_has_no_strength_that_overflows(models: Path, strength: float) -> None:
    types = from_pack("nodes.host.libraries")
    with pytest.raises(ValueError, match="strength of 'rex' must be between -4 and 4"):
        types.LibrarySelection(
            types.open_library("zoo"),
            from_pack("ccvd_core.concepts.adjustments").Adjustments(strengths={"rex": strength}),
        )


# The route


class Request:
    def __init__(self, **query: str) -> None:
        self.query = query


@pytest.fixture
def ask(models: Path) -> Callable[..., Any]:
    """The route's answer, as the page reads it."""
    routes = from_pack("nodes.host.routes")

    def answer(**query: str) -> tuple[int, Any]:
        response = asyncio.run(routes.concepts(Request(**query)))
        return response.status, json.loads(response.text)

    return answer


def test_one_bad_library_does_not_hide_the_others(models: Path, ask: Callable[..., Any], monkeypatch: Any) -> None:
    put(models, "good", learned("rex"))
    put(models, "bad", learned("kit"))
    (models / "a file").touch()
    (models / "loop").symlink_to("loop")
    files = from_pack("ccvd_core.concepts.library_files")
    real = files.os.scandir

    def denied(folder: Any) -> Any:
        if Path(folder).name == "bad":
            raise PermissionError(13, "denied")
        return real(folder)

    monkeypatch.setattr(files.os, "scandir", denied)
    status, found = ask()
    assert status == 200 and found["libraries"] == {"good": ["rex"]}
    assert "access was denied" in found["problems"]["bad"]
    assert ask(library="bad")[1]["libraries"] == {}
    assert ask(library="../..") == (400, {"error": ask(library="../..")[1]["error"]})
    assert ask(library="unknown")[1] == {"libraries": {"unknown": []}, "problems": {}}


def test_the_server_answers_others_while_libraries_are_read(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan waits for something that only the server's own thread does meanwhile."""
    put(models, "zoo", learned("rex"))
    routes, library = from_pack("nodes.host.routes"), from_pack("ccvd_core.concepts.library")
    answered, scans = threading.Event(), []
    real = library.read_header

    def read(path: Path) -> Any:
        scans.append(answered.wait(30))
        return real(path)

    monkeypatch.setattr(library, "read_header", read)

    async def both() -> Any:
        first = asyncio.create_task(routes.concepts(Request()))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, answered.set)
        return await first

    response = asyncio.run(both())
    assert scans == [True], "in the server's thread nothing could have answered"
    assert json.loads(response.text)["libraries"] == {"zoo": ["rex"]}


# Aggregate Adapters: what takes part


def scene_of(backbone: Backbone, library: Any, text: str, participants: Any) -> Any:
    from ccvd_core.prompts.aggregation import AggregationSettings
    from ccvd_core.regions.library_scene import aggregate_library
    from ccvd_core.regions.region import RegionSet

    settings = AggregationSettings(participants=participants, pinned=False)
    return aggregate_library(backbone, text, RegionSet(1, 1, ()), library, library.names(), settings, {})


def acting_concept(backbone: Backbone, name: str, seed: int) -> Concept:
    generator = torch.Generator().manual_seed(seed)
    adapters = {
        site.id: LowRank(
            torch.randn(2, site.in_features, generator=generator),
            torch.randn(site.out_features, 2, generator=generator),
        )
        for site in backbone.sites
        if site.id in backbone.site_ids("subject")
    }
    tokens = torch.randn(backbone.layers, 1, backbone.text_width, generator=generator)
    keys = torch.nn.functional.normalize(tokens[:, 0] + 1, dim=-1)
    return Concept(name, "subject", "dog", adapters, tokens, keys, keys, backbone.fingerprint)


@pytest.fixture
def shelf(tmp_path: Path, backbones: dict[str, Backbone]) -> Any:
    """A library of the tiny model: <rex>, <kit> and <fox>."""
    from ccvd_core.concepts.library import ConceptLibrary

    shelf = ConceptLibrary(tmp_path / "shelf")
    for seed, name in enumerate(("rex", "kit", "fox"), 1):
        shelf.add(acting_concept(backbones["comfy"], name, seed))
    return shelf


def spoil(shelf: Any, name: str) -> None:
    """Damage below the header: the last adapter's last byte."""
    path = shelf.folder / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)
    assert name in shelf.names()


def test_only_concepts_that_take_part_are_read(
    shelf: Any, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccvd_core.concepts import library

    read: list[str] = []
    for name in ("load_outline", "load_concept"):
        real = getattr(library, name)
        monkeypatch.setattr(library, name, lambda path, real=real: read.append(path.stem) or real(path))
    used = scene_of(backbones["comfy"], shelf, "a <Rex> runs", "named")
    assert read == ["rex", "rex"] and used.names == ("rex",)
    assert [concept.name for concept in used.acting] == ["rex"]
    scene_of(backbones["comfy"], shelf, "a dog runs", "named")
    assert len(read) == 2


@pytest.mark.parametrize("participants", ["named", "all"])
def test_damage_to_a_concept_that_nobody_named_stops_no_prompt(
    shelf: Any, backbones: dict[str, Backbone], participants: str
) -> None:
    backbone = backbones["comfy"]
    spoil(shelf, "kit")
    used = scene_of(backbone, shelf, "a <rex> runs", participants)
    assert "rex" in used.names and "kit" not in used.names
    (shelf.folder / "kit.safetensors").unlink()
    without = scene_of(backbone, shelf, "a <rex> runs", participants)
    assert torch.equal(used.scene.parts[0].weights, without.scene.parts[0].weights), "as if it were not there"
    if participants == "all":
        assert "kit.safetensors" in used.left_out["kit"] and "checksum" in used.left_out["kit"]


@pytest.mark.parametrize("participants", ["named", "all"])
def test_damage_to_a_named_concept_is_said(shelf: Any, backbones: dict[str, Backbone], participants: str) -> None:
    spoil(shelf, "kit")
    with pytest.raises(ValueError, match=r"kit\.safetensors is damaged"):
        scene_of(backbones["comfy"], shelf, "a <kit> runs", participants)


def test_earlier_concepts_that_cannot_be_read_are_left_out_of_a_lesson(shelf: Any) -> None:
    spoil(shelf, "kit")
    earlier, left_out = shelf.load_usable(shelf.names())
    assert [concept.name for concept in earlier] == ["rex", "fox"]
    assert list(left_out) == ["kit"] and "kit.safetensors" in left_out["kit"]


def test_a_caption_may_write_the_name_in_capitals(backbones: dict[str, Backbone]) -> None:
    from ccvd_core.learning.example import Example
    from ccvd_core.learning.learner import ConceptLearner
    from ccvd_core.learning.step import LearningSettings

    def learner(caption: str) -> Any:
        example = Example(torch.zeros(4, 1, 4, 4), caption)
        return ConceptLearner(backbones["comfy"], [example], "rex", "subject", "dog", LearningSettings(steps=1))

    assert learner("a <Rex> runs").latent_shape == (4, 1, 4, 4)
    with pytest.raises(ValueError, match="does not say where the concept is: write <rex>"):
        learner("a dog runs")


def test_the_heat_map_of_500_concepts_is_bounded() -> None:
    pictures, overview = from_pack("nodes.host.pictures"), from_pack("nodes.host.overview")
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(40, 300, generator=generator) * 0.5
    weights[:, 123] = 1.0

    class Scene:
        class Part:
            def __init__(self, values: torch.Tensor) -> None:
                self.weights = self.relevances = values

        parts = (Part(weights), Part(weights / 2))

    names = [f"c{number}" for number in range(500)]
    shown = overview.Overview.of(Scene(), names[:300], names)
    assert len(shown.names) == overview.MOST_CONCEPTS and "c123" in shown.names
    assert list(shown.names) == sorted(shown.names, key=names.index)
    largest = weights.amax(0)
    least = min(float(largest[names.index(name)]) for name in shown.names)
    assert int((largest > least).sum()) < overview.MOST_CONCEPTS
    assert "24 of 500 concepts" in shown.remarks[0]
    picture = pictures.heat_map(shown.largest(), shown.names, shown.title)
    assert picture.numel() * 4 < 30e6
    few = overview.Overview.of(Scene(), names[:300], ["c1", "unread"])
    assert few.names == ("c1", "unread") and not few.remarks
    assert few.weights[1][:, 0].equal(weights[:, 1] / 2) and few.relevances[0][:, 1].isnan().all()
    assert np.isfinite(pictures.heat_map(few.largest(), few.names, few.title).numpy()).all()
