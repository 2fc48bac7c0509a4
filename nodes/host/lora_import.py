"""A LoRA file of ComfyUI's as a concept of a library."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_patcher import ModelPatcher

from ...ccvd_core.backbones.base import Backbone
from ...ccvd_core.concepts.library import ConceptLibrary
from ...ccvd_core.concepts.lora_file import LoraAdapters
from ...ccvd_core.errors import CCVDError
from ...ccvd_core.prompts.lora_concept import (
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    check_trigger_words,
    lora_concept,
    read_adapters,
)
from .backbone import backbone_of, family_of
from .libraries import open_library
from .made_here import MADE_HERE
from .text_encoder import PromptReader


def file_state(lora: Any) -> str:
    """Changes when the file does; empty for a linked value, which is not known yet, and None."""
    path = folder_paths.get_full_path("loras", lora) if lora else None
    return f"{Path(path).stat().st_mtime_ns}" if path else ""


def import_lora(model: ModelPatcher, clip: Any, lora: str, name: str, trigger_words: str, library: str) -> str:
    """Add the file to the library as <name>, unless it is there already; what was done, in words. Raises CCVDError."""
    shelf = open_library(library)
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
    MADE_HERE.add((library, name))
    return report


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
