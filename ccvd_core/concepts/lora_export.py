"""A concept's adapters as an ordinary LoRA file for other tools."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from ..errors import LoraFileError
from .concept import Concept
from .file import adapter_tensors
from .lora_file import opened
from .whole_files import advice, write_whole

EXPORTED = "ccvd_exported_concept"
"""In the metadata of a file that `write_lora` wrote: the concept's name."""
WITHOUT_TOKENS = (
    "A concept of ComfyUI-CCVD as an ordinary LoRA: its adapters alone, which act on the whole prompt. Its concept "
    "tokens are not in this file; write the class words in the prompt."
)


def lora_metadata(concept: Concept) -> dict[str, str]:
    """What other tools show of the file, in the ModelSpec's terms, and that it lacks the tokens."""
    note = WITHOUT_TOKENS if concept.tokens.numel() else "An imported LoRA, written again as it came."
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": concept.name,
        "modelspec.trigger_phrase": concept.class_words,
        "modelspec.description": note,
        EXPORTED: concept.name,
    }


def write_lora(concept: Concept, path: Path) -> None:
    """Write a concept's adapters as an ordinary LoRA, whole or not at all, over an earlier export of that concept only.

    Its tokens are not in it, which its metadata say. Raises LoraFileError.
    """
    if not concept.adapters:
        raise LoraFileError(f"<{concept.name}> has no adapters to write as a LoRA.")
    if path.exists() and not is_export(path, concept.name):
        raise LoraFileError(
            f"There is already another file {path}, and it is never overwritten. Move it or rename the concept's file."
        )
    data = safetensors.torch.save(adapter_tensors(concept, path), lora_metadata(concept))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise LoraFileError(f"Cannot write the LoRA file {path}: {advice(error)}") from error


def is_export(path: Path, name: str) -> bool:
    """Whether a file is an export of the concept of this name."""
    try:
        with opened(path, path.name) as file:
            return (file.metadata() or {}).get(EXPORTED) == name
    except LoraFileError:
        return False
