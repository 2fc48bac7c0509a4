"""What Concept Library says of a library: a line for each concept and each file that cannot be used, and a picture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...ccvd_core.concepts.header import ConceptHeader
from ...ccvd_core.concepts.library import ConceptLibrary
from .libraries import LibrarySelection, libraries, other_libraries
from .pictures import text_picture
from .previews import preview_grid

MOST_PROBLEMS = 20
"""Files that cannot be used of which the listing says why."""


def library_state(shelf: ConceptLibrary) -> str:
    """Changes whenever the listing would: of a missing library it says which others there are."""
    return shelf.library_signature() + ("" if shelf.folder.is_dir() else " ".join(libraries()))


def list_concepts(selection: LibrarySelection, further: Sequence[str] = ()) -> tuple[str, Tensor]:
    """The listing with `further` lines below it, and a picture: the previews, or the listing where there are none."""
    shelf = selection.library
    headers = shelf.headers()
    picture, unseen = preview_grid([(header.name, header.preview) for header in headers if header.preview])
    lines = [describe(header, selection, unseen) for header in headers] + [*problems_of(shelf), *further]
    listing = "\n".join(lines)
    if not listing:
        listing = f"The library {shelf.folder.name!r} is empty. {other_libraries(shelf.folder.name)}"
    return listing, text_picture(listing) if picture is None else picture


def describe(header: ConceptHeader, selection: LibrarySelection, unseen: Sequence[str]) -> str:
    """A concept as one line of the listing."""
    adjusted = selection.adjusted
    state = "off" if header.name in adjusted.off else f"strength {adjusted.strengths.get(header.name, 1.0):g}"
    if limits := adjusted.ranges.get(header.name):
        state += f", at noise {limits[0]:g} to {limits[1]:g}"
    hidden = ", its preview cannot be shown" if header.name in unseen else ""
    return (
        f"{header.order}. <{header.name}>  {header.kind}, {header.class_words!r}, rank {header.rank}, {state}{hidden}"
    )


def problems_of(shelf: ConceptLibrary) -> list[str]:
    problems = shelf.problems()
    more = [f"and {len(problems) - MOST_PROBLEMS} more files that are not usable"] * (len(problems) > MOST_PROBLEMS)
    return [*(f"not usable: {problem}" for problem in problems[:MOST_PROBLEMS]), *more]
