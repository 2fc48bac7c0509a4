"""The pack's own socket types and the folder it keeps concepts in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...ccvd_core.concepts.adjustments import NO_ADJUSTMENTS, Adjustments
from ...ccvd_core.concepts.concept import check_name
from ...ccvd_core.concepts.library import ConceptLibrary
from ...ccvd_core.concepts.library_files import library_names
from ...ccvd_core.concepts.suggestions import did_you_mean, listed
from ...ccvd_core.errors import CCVDError, UnknownConceptError, shorten
from ...ccvd_core.prompts.mentions import unknown_concept

LibraryType = io.Custom("CCVD_LIBRARY")
RegionsType = io.Custom("CCVD_REGIONS")
TrainingOptionsType = io.Custom("CCVD_TRAINING_OPTIONS")
"""A `ccvd_core.regions.RegionSet`."""
MODEL_FOLDER = "ccvd"


@dataclass(frozen=True)
class LibrarySelection:
    """What travels on a CCVD_LIBRARY socket: a library, and what an artist has changed about its concepts."""

    library: ConceptLibrary
    adjusted: Adjustments = NO_ADJUSTMENTS

    def names(self) -> tuple[str, ...]:
        """Names of the concepts that are on, in learning order."""
        return tuple(name for name in self.library.names() if name not in self.adjusted.off)

    def check_known(self, names: Iterable[str], who: str = "The prompt names") -> None:
        """Raise UnknownConceptError for the first name that is not on, saying why not and what there is."""
        known = self.names()
        for name in names:
            if name not in known:
                raise self._unknown(name, sorted(known), who)

    def _unknown(self, name: str, known: list[str], who: str) -> UnknownConceptError:
        library, folder = repr(self.library.folder.name), self.library.folder
        if name in self.adjusted.off:
            return unknown_concept(name, f"which is switched off ('{name} off' in Concept Library)", known, who)
        for path, problem in self.library.broken():
            if path.stem == name:
                return UnknownConceptError(f"{who} <{name}>, which cannot be used. {problem}")
        if not known and not self.adjusted.off:
            missing = f"but the concept library {library} is empty"
            if not folder.is_dir():
                missing = f"but there is no concept library {library}"
            return UnknownConceptError(f"{who} <{shorten(name)[1:-1]}>, {missing}. {other_libraries(folder.name)}")
        return unknown_concept(name, f"which is not in the concept library {library}", known, who)


def concept_name(text: str) -> str:
    """The name that an artist wrote, with or without angle brackets. Raises CCVDError for one that none can have."""
    return check_name(written_name(text))


def written_name(text: str) -> str:
    return text.strip().removeprefix("<").removesuffix(">").lower()


def other_libraries(wanted: str) -> str:
    """What there is instead of a library that is missing or empty."""
    names = [name for name in libraries() if name != wanted]
    if not names:
        return "It is filled by learning a concept with Learn Concept."
    return (
        f"{did_you_mean(wanted, names, '{!r}')}Other libraries in models/{MODEL_FOLDER}: {listed(names, '{!r}')}. "
        "Choose one, or learn a concept with Learn Concept."
    )


def libraries() -> list[str]:
    """Names of all libraries. Raises LibraryError."""
    return library_names(model_folder())


def model_folder() -> Path:
    return Path(folder_paths.get_folder_paths(MODEL_FOLDER)[0])


def register_model_folder() -> None:
    """Concept libraries live in ComfyUI's models/ccvd, one folder each."""
    folder_paths.add_model_folder_path(MODEL_FOLDER, str(Path(folder_paths.models_dir) / MODEL_FOLDER), is_default=True)


def open_library(name: str) -> ConceptLibrary:
    """The library of this name. Raises CCVDError for a name that could leave the folder."""
    try:
        folder = check_name(name.strip().lower())
    except CCVDError:
        raise CCVDError(
            f"The library name {shorten(name)} cannot be used: it becomes a folder in models/ccvd, so it takes 1 to 64 "
            "of the characters a-z, 0-9, _ and -, starting with a letter or digit."
        ) from None
    return ConceptLibrary(model_folder() / folder)
