"""Concepts of a library as files for other tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...ccvd_core.backbones.file_names import diffusers_names
from ...ccvd_core.concepts.concept import Concept
from ...ccvd_core.concepts.library_files import SUFFIX
from ...ccvd_core.concepts.lora_export import write_lora
from ...ccvd_core.errors import CCVDError
from .libraries import LibrarySelection

FOLDER = "ccvd"
"""In the folders below, with a folder for each library."""


@dataclass(frozen=True)
class Export:
    """One form: where its files go, what they are called, and how one is written."""

    root: Callable[[], str]
    shown: str
    """The root, as artists know it."""
    suffix: str
    write: Callable[[Concept, Path], None]


def write_peft(concept: Concept, folder: Path) -> None:
    from ...ccvd_core.concepts.peft_folder import write_peft_folder  # imports PEFT, which takes seconds

    write_peft_folder(concept, folder, diffusers_names(concept.base))


EXPORTS: Mapping[str, Export | None] = {
    "off": None,
    "LoRA": Export(lambda: folder_paths.get_folder_paths("loras")[0], "models/loras", SUFFIX, write_lora),
    "PEFT": Export(folder_paths.get_output_directory, "output", "", write_peft),
}
"""By what the artist chooses. PEFT folders are for diffusers: ComfyUI's Load LoRA does not know their names."""


def export_concepts(selection: LibrarySelection, form: str) -> list[str]:
    """Write the concepts that are on: a line for each. Strengths are the loader's to set."""
    export = EXPORTS[form]
    if export is None:
        return []
    library = selection.library.folder.name
    lines = []
    for name in selection.names():
        try:
            concept = selection.library.load(name)
            export.write(concept, Path(export.root()) / FOLDER / library / f"{name}{export.suffix}")
        except CCVDError as error:
            lines.append(f"not exported: {error}")
            continue
        read = f"write {concept.class_words!r} in the prompt"
        lacks = f"its tokens are not in it; {read}" if concept.tokens.numel() else read
        lines.append(f"exported <{name}> to {export.shown}/{FOLDER}/{library}/{name}{export.suffix}: {lacks}")
    return lines
