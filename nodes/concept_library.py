"""Concept Library: which concepts are on, and how strongly."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..ccvd_core.concepts.adjustments import parse_adjustments
from .host.exports import EXPORTS, export_concepts
from .host.libraries import LibrarySelection, LibraryType, open_library
from .host.library_listing import library_state, list_concepts
from .host.search_words import SEARCH_WORDS


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
                    tooltip="One concept per line: `rex 0.8` sets its strength, `rex off` switches it off, `hop from "
                    "0.5 to 1` lets it act at that noise only (1 at the first step, 0 at the last). Concepts that are "
                    "not listed are on with strength 1.",
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
        return library_state(open_library(library))

    @classmethod
    def execute(cls, library: str, adjust: str, export: str = "off") -> io.NodeOutput:
        shelf = open_library(library)
        adjusted = parse_adjustments(adjust)
        LibrarySelection(shelf).check_known(adjusted.names, "The adjustments name")
        selection = LibrarySelection(shelf, adjusted)
        listing, picture = list_concepts(selection, export_concepts(selection, export))
        return io.NodeOutput(selection, listing, ui=ui.PreviewImage(picture, cls=cls))
