"""The pack's own socket types and the folder it keeps concepts in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..ccvd_core.concept import check_name
from ..ccvd_core.errors import CCVDError
from ..ccvd_core.library import ConceptLibrary

LibraryType = io.Custom("CCVD_LIBRARY")
RegionsType = io.Custom("CCVD_REGIONS")
"""A `ccvd_core.regions.RegionSet`."""
MODEL_FOLDER = "ccvd"


@dataclass(frozen=True)
class LibrarySelection:
    """What travels on a CCVD_LIBRARY socket: a library, the concepts switched off, and strengths other than 1."""

    library: ConceptLibrary
    off: frozenset[str] = frozenset()
    strengths: Mapping[str, float] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Names of the concepts that are on, in learning order."""
        return tuple(name for name in self.library.names() if name not in self.off)


def register_model_folder() -> None:
    """Concept libraries live in ComfyUI's models/ccvd, one folder each."""
    folder_paths.add_model_folder_path(MODEL_FOLDER, str(Path(folder_paths.models_dir) / MODEL_FOLDER), is_default=True)


def open_library(name: str) -> ConceptLibrary:
    """The library of this name. Raises CCVDError for a name that could leave the folder."""
    try:
        folder = check_name(name.strip().lower())
    except CCVDError:
        raise CCVDError(
            f"The library name {name!r} cannot be used: it becomes a folder in models/ccvd, so it takes 1 to 64 of the "
            "characters a-z, 0-9, _ and -, starting with a letter or digit."
        ) from None
    return ConceptLibrary(Path(folder_paths.get_folder_paths(MODEL_FOLDER)[0]) / folder)
