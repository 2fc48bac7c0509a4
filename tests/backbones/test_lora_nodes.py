"""Import LoRA, and the export of Concept Library: what an artist gets and is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.concepts.file import save_concept
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.concepts.lora_export import EXPORTED
from tests.backbones.conftest import encode_text
from tests.backbones.pack import from_pack
from tests.backbones.test_lora_concept import WORDS, imported, lora_file


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbones: dict[str, Backbone]) -> Path:
    """ComfyUI's models/ccvd and models/loras, the latter with one file."""
    import folder_paths

    types = from_pack("nodes.host.libraries")
    monkeypatch.setattr(types, "model_folder", lambda: tmp_path / "ccvd")
    (tmp_path / "loras").mkdir()
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "loras", ([str(tmp_path / "loras")], folder_paths.supported_pt_extensions)
    )
    lora_file(tmp_path / "loras" / "zxc.safetensors", backbones["comfy"])
    return tmp_path


@pytest.fixture
def node(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(from_pack("nodes.host.lora_import"), "PromptReader", lambda clip, encoder: encode_text)
    from_pack("nodes.host.made_here").MADE_HERE.clear()
    return from_pack("nodes.import_lora")


def run(node: Any, backbone: Backbone, **inputs: Any) -> tuple[Any, str]:
    assert isinstance(backbone, ComfyWanBackbone)
    inner = SimpleNamespace(diffusion_model=backbone._model, get_dtype_inference=lambda: torch.float32)
    given = {"lora": "zxc.safetensors", "name": "<Rex>", "trigger_words": WORDS, "library": "zoo", **inputs}
    return node.ImportLora.execute(SimpleNamespace(model=inner), None, **given).args


def test_a_file_becomes_a_concept_of_the_library(node: Any, folders: Path, backbones: dict[str, Backbone]) -> None:
    selection, report = run(node, backbones["comfy"])
    assert selection.names() == ("rex",)
    count = len(backbones["comfy"].sites)
    assert f"Imported zxc.safetensors as <rex>, which the model reads as 'zxc dog': {count} adapters" in report
    concept = ConceptLibrary(folders / "ccvd" / "zoo").load("rex")
    assert (concept.kind, concept.order, concept.settings["lora_file"]) == ("lora", 1, "zxc.safetensors")
    expected = imported(folders / "loras" / "zxc.safetensors", backbones["comfy"])
    assert all(torch.equal(concept.adapters[site].b, adapter.b) for site, adapter in expected.adapters.items())


def test_queueing_again_is_no_error_and_writes_nothing(
    node: Any, folders: Path, backbones: dict[str, Backbone]
) -> None:
    run(node, backbones["comfy"])
    path = folders / "ccvd" / "zoo" / "rex.safetensors"
    before = path.stat().st_mtime_ns
    selection, report = run(node, backbones["comfy"])
    assert "is in the library 'zoo' already" in report and selection.names() == ("rex",)
    assert path.stat().st_mtime_ns == before


def test_another_import_never_takes_a_name_that_is_used(
    node: Any, folders: Path, backbones: dict[str, Backbone]
) -> None:
    run(node, backbones["comfy"])
    with pytest.raises(ValueError, match="There is already a concept file"):
        run(node, backbones["comfy"], trigger_words="zxc")
    tensors = load_file(folders / "loras" / "zxc.safetensors")
    save_file({key: 2 * tensor for key, tensor in tensors.items()}, folders / "loras" / "zxc.safetensors")
    with pytest.raises(ValueError, match="There is already a concept file"):
        run(node, backbones["comfy"])


def test_what_is_left_out_is_reported(node: Any, folders: Path, backbones: dict[str, Backbone]) -> None:
    tensors = load_file(folders / "loras" / "zxc.safetensors")
    tensors |= {"lora_unet_head_head.lora_down.weight": torch.ones(1, 64) * 0.1}
    tensors |= {"lora_unet_head_head.lora_up.weight": torch.ones(16, 1) * 0.1}
    save_file(tensors, folders / "loras" / "more.safetensors")
    _, report = run(node, backbones["comfy"], lora="more.safetensors")
    assert "Left out: lora_unet_head_head, with 0." in report and "% of its change" in report


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"name": "two words"}, "cannot be used"),
        ({"trigger_words": " "}, "trigger words of <rex> are missing"),
        ({"library": "../zoo"}, "library name"),
        ({"lora": "gone.safetensors"}, "There is no LoRA 'gone.safetensors'"),
    ],
)
def test_bad_inputs_are_refused_before_anything_is_written(
    inputs: dict[str, str], words: str, node: Any, folders: Path, backbones: dict[str, Backbone]
) -> None:
    with pytest.raises(ValueError, match=words):
        run(node, backbones["comfy"], **inputs)
    assert not list(folders.glob("ccvd/*/*"))


def test_it_is_imported_again_when_its_file_was_deleted(
    node: Any, folders: Path, backbones: dict[str, Backbone]
) -> None:
    inputs = {"lora": "zxc.safetensors", "name": "rex", "library": "zoo"}
    before = node.ImportLora.fingerprint_inputs(**inputs)
    run(node, backbones["comfy"])
    assert node.ImportLora.fingerprint_inputs(**inputs) == before, "or everything after it would run twice"
    (folders / "ccvd" / "zoo" / "rex.safetensors").unlink()
    assert node.ImportLora.fingerprint_inputs(**inputs) != before
    assert node.ImportLora.fingerprint_inputs(lora=None, name=None, library=None) == ""


def exported(monkeypatch: pytest.MonkeyPatch, adjust: str = "", form: str = "LoRA") -> str:
    library = from_pack("nodes.concept_library")
    monkeypatch.setattr(library.ui, "PreviewImage", lambda picture, cls: picture)
    return library.ConceptLibraryNode.execute("zoo", adjust, form).args[1]


def test_concept_library_exports_what_is_on(
    node: Any, folders: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(node, backbones["comfy"])
    run(node, backbones["comfy"], name="kit")
    text = exported(monkeypatch, "kit off")
    path = folders / "loras" / "ccvd" / "zoo" / "rex.safetensors"
    assert [found.name for found in path.parent.iterdir()] == ["rex.safetensors"]
    assert "exported <rex> to models/loras/ccvd/zoo/rex.safetensors: write 'zxc dog' in the prompt" in text
    with safe_open(path, "pt") as file:
        assert file.metadata()[EXPORTED] == "rex"
    # What was exported can be imported under another name: the same change.
    again = imported(path, backbones["comfy"], "again")
    for site, adapter in imported(folders / "loras" / "zxc.safetensors", backbones["comfy"]).adapters.items():
        torch.testing.assert_close(again.adapters[site].b, adapter.b)


def test_the_export_says_that_tokens_are_missing_and_what_failed(
    node: Any, folders: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    backbone = backbones["comfy"]
    lora = imported(folders / "loras" / "zxc.safetensors", backbone)
    tokens = torch.ones(backbone.layers, 2, backbone.text_width)
    shelf = folders / "ccvd" / "zoo"
    shelf.mkdir(parents=True)
    save_concept(replace(lora, kind="subject", tokens=tokens, order=1), shelf / "rex.safetensors")
    save_concept(replace(lora, name="kit", order=2), shelf / "kit.safetensors")
    target = folders / "loras" / "ccvd" / "zoo"
    target.mkdir(parents=True)
    (target / "kit.safetensors").write_bytes(b"someone's own")
    lines = exported(monkeypatch).splitlines()
    assert lines[-2].endswith("its tokens are not in it; write 'zxc dog' in the prompt")
    assert lines[-1].startswith("not exported: There is already another file")
    assert (target / "kit.safetensors").read_bytes() == b"someone's own"


def test_concept_library_exports_peft_folders_for_diffusers(
    node: Any, folders: Path, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(folders / "output"))
    run(node, backbones["comfy"])
    folder = folders / "output" / "ccvd" / "zoo" / "rex"
    for _ in range(2):
        assert "exported <rex> to output/ccvd/zoo/rex: write 'zxc dog'" in exported(monkeypatch, form="PEFT")
    names = set(load_file(folder / "adapter_model.safetensors"))
    assert "base_model.model.blocks.0.attn2.to_q.lora_A.weight" in names and len(names) == 2 * len(
        backbones["comfy"].sites
    )
    again = imported(folder, backbones["comfy"])
    for site, adapter in imported(folders / "loras" / "zxc.safetensors", backbones["comfy"]).adapters.items():
        torch.testing.assert_close(again.adapters[site].b @ again.adapters[site].a, adapter.b @ adapter.a)
    assert exported(monkeypatch, form="off").count("exported") == 0
