"""Import LoRA: an ordinary LoRA file becomes a concept of a library."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui

from ..ccvd_core.backbones.base import Backbone
from ..ccvd_core.concepts.concept import check_name
from ..ccvd_core.concepts.library import ConceptLibrary
from ..ccvd_core.concepts.lora_file import LoraAdapters
from ..ccvd_core.errors import CCVDError
from ..ccvd_core.prompts.lora_concept import PEFT_CONFIG, PEFT_WEIGHTS, check_trigger_words, lora_concept, read_adapters
from .host.backbone import backbone_of, family_of
from .host.lesson import written_name
from .host.libraries import LibrarySelection, LibraryType, open_library
from .host.search_words import SEARCH_WORDS
from .host.text_encoder import PromptReader

IMPORTED_HERE: set[tuple[str, str]] = set()
"""(library, concept) of what this process imported: a concept that was deleted since is imported again."""


class ImportLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_ImportLora",
            display_name="Import LoRA",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_ImportLora"],
            description=(
                "Make a concept of an ordinary LoRA file, so that <name> in a prompt or a region uses it there and "
                "nowhere else. It is kept as a file of its own in a concept library."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The base model that the LoRA was made for. It is not changed."),
                io.Clip.Input("clip", tooltip="The text encoder that belongs to the model."),
                io.Combo.Input(
                    "lora",
                    options=folder_paths.get_filename_list("loras"),
                    tooltip="A LoRA file from ComfyUI/models/loras, or the adapter_model.safetensors of a PEFT folder "
                    "there.",
                ),
                io.String.Input(
                    "name",
                    default="rex",
                    tooltip="How you will write it in prompts: <rex>. Letters a-z, digits, - and _.",
                ),
                io.String.Input(
                    "trigger_words",
                    default="",
                    tooltip="What the model reads in place of <name>: the trigger words on the LoRA's page or, if it "
                    "has none, what it shows, such as `a woman` or `oil painting`.",
                ),
                io.String.Input(
                    "library",
                    default="my_concepts",
                    tooltip="The library to add it to: a folder inside ComfyUI/models/ccvd.",
                ),
            ],
            outputs=[LibraryType.Output("library_out", display_name="library"), io.String.Output("report")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, lora: Any = None, name: Any = None, library: Any = None, **_: Any) -> str:
        # A linked value is not known yet, and None.
        concept, shelf = written_name(name or ""), library or ""
        if (shelf, concept) in IMPORTED_HERE and concept not in open_library(shelf).names():
            return f"gone {time.time()}"
        path = folder_paths.get_full_path("loras", lora) if lora else None
        return f"{Path(path).stat().st_mtime_ns}" if path else ""

    @classmethod
    def execute(
        cls, model: ModelPatcher, clip: Any, lora: str, name: str, trigger_words: str, library: str
    ) -> io.NodeOutput:
        shelf, name = open_library(library), check_name(written_name(name))
        words = check_trigger_words(trigger_words, name)
        path = Path(folder_paths.get_full_path("loras", lora) or "")
        if not path.is_file():
            raise CCVDError(f"There is no LoRA {lora!r} in models/loras. Refresh the page (R) and choose another.")
        backbone = backbone_of(model, PromptReader(clip, family_of(model).encoder))
        source = file_digest(path)
        if is_there(shelf, name, words, source, backbone):
            report = f"<{name}> is in the library {shelf.folder.name!r} already, from the same file and trigger words."
        else:
            shelf.check_can_add(name)
            adapters = read_adapters(path, backbone)
            settings = {"lora_file": lora, "sha256": source, "left_out": list(adapters.left_out)}
            concept = shelf.add(lora_concept(name, words, adapters, backbone, settings))
            report = describe(name, lora, words, adapters, concept.rank)
            logging.info("CCVD: %s", report)
        IMPORTED_HERE.add((library, name))
        return io.NodeOutput(LibrarySelection(shelf), report, ui=ui.PreviewText(report))


def is_there(shelf: ConceptLibrary, name: str, words: str, source: str, backbone: Backbone) -> bool:
    """Whether the library has this very import: queueing a workflow again must not fail."""
    for header in shelf.headers():
        if header.name == name and header.kind == "lora" and header.class_words == words:
            return header.settings.get("sha256") == source and header.base.matches(backbone.fingerprint)
    return False


def file_digest(path: Path) -> str:
    """SHA-256 of a LoRA file, with the configuration beside it that a PEFT folder has."""
    total = hashlib.sha256()
    for part in [path, *([path.parent / PEFT_CONFIG] if path.name == PEFT_WEIGHTS else [])]:
        if part.is_file():
            with open(part, "rb") as file:
                while block := file.read(1024**2):
                    total.update(block)
    return total.hexdigest()


def describe(name: str, lora: str, words: str, adapters: LoraAdapters, rank: int) -> str:
    """What was imported and, if anything was, what was left out."""
    text = (
        f"Imported {lora} as <{name}>, which the model reads as {words!r}: {len(adapters.adapters)} adapters of rank "
        f"up to {rank}."
    )
    if adapters.left_out:
        more = len(adapters.left_out) - 3
        named = ", ".join(adapters.left_out[:3]) + (f" and {more} more" if more > 0 else "")
        text += (
            f" Left out: {named}, with {adapters.left_share:.1%} of its change. Concepts do not adapt these layers; "
            "ComfyUI's Load LoRA would."
        )
    return text
