"""Concept Library: which concepts are on, and how strongly."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io, ui

from ..ccvd_core.concepts.adjustments import parse_adjustments
from ..ccvd_core.concepts.header import ConceptHeader
from ..ccvd_core.concepts.library import ConceptLibrary
from .host.exports import EXPORTS, export_concepts
from .host.libraries import LibrarySelection, LibraryType, libraries, open_library, other_libraries
from .host.pictures import text_picture
from .host.previews import preview_grid
from .host.search_words import SEARCH_WORDS

MOST_PROBLEMS = 20
"""Files that cannot be used of which the listing says why."""


class ConceptLibraryNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_ConceptLibrary",
            display_name="Concept Library",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_ConceptLibrary"],
            description="The concepts learned so far. Switch some off or change how strongly they act.",
            inputs=[
                io.String.Input(
                    "library",
                    default="my_concepts",
                    tooltip="Name of the library: a folder inside ComfyUI/models/ccvd.",
                ),
                io.String.Input(
                    "adjust",
                    default="",
                    multiline=True,
                    tooltip="One concept per line: `rex 0.8` sets its strength, `rex off` switches it off. "
                    "Concepts that are not listed are on with strength 1.",
                ),
                io.Combo.Input(
                    "export",
                    options=list(EXPORTS),
                    default="off",
                    optional=True,
                    tooltip="Also write each concept that is on for other tools: an ordinary LoRA in "
                    "ComfyUI/models/loras/ccvd, for Load LoRA, or a PEFT folder in ComfyUI/output/ccvd, for diffusers. "
                    "Concept tokens are not in it.",
                    advanced=True,
                ),
            ],
            outputs=[LibraryType.Output("library_out", display_name="library"), io.String.Output("listing")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, library: str, adjust: str, export: str = "off") -> str:
        shelf = open_library(library)
        # Of a missing library the listing says which others there are.
        return shelf.library_signature() + ("" if shelf.folder.is_dir() else " ".join(libraries()))

    @classmethod
    def execute(cls, library: str, adjust: str, export: str = "off") -> io.NodeOutput:
        shelf = open_library(library)
        off, strengths = parse_adjustments(adjust)
        LibrarySelection(shelf).check_known([*off, *strengths], "The adjustments name")
        selection = LibrarySelection(shelf, off, strengths)
        headers = shelf.headers()
        picture, unseen = preview_grid([(header.name, header.preview) for header in headers if header.preview])
        lines = [describe(header, selection, unseen) for header in headers] + problems_of(shelf)
        lines += export_concepts(selection, export)
        listing = "\n".join(lines) or f"The library {library!r} is empty. {other_libraries(shelf.folder.name)}"
        if picture is None:
            picture = text_picture(listing)
        return io.NodeOutput(selection, listing, ui=ui.PreviewImage(picture, cls=cls))


def describe(header: ConceptHeader, selection: LibrarySelection, unseen: Sequence[str]) -> str:
    """A concept as one line of the listing."""
    state = "off" if header.name in selection.off else f"strength {selection.strengths.get(header.name, 1.0):g}"
    hidden = ", its preview cannot be shown" if header.name in unseen else ""
    return (
        f"{header.order}. <{header.name}>  {header.kind}, {header.class_words!r}, rank {header.rank}, {state}{hidden}"
    )


def problems_of(shelf: ConceptLibrary) -> list[str]:
    problems = shelf.problems()
    more = [f"and {len(problems) - MOST_PROBLEMS} more files that are not usable"] * (len(problems) > MOST_PROBLEMS)
    return [*(f"not usable: {problem}" for problem in problems[:MOST_PROBLEMS]), *more]
