"""Concept Library: which concepts are on, and how strongly."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui

from ..ccvd_core.errors import CCVDError
from ..ccvd_core.prompt import check_known
from .pictures import decode_picture, grid
from .search_words import SEARCH_WORDS
from .types import LibrarySelection, LibraryType, open_library

LINE = re.compile(r"<?([a-z0-9_-]+)>?\s*[:=]?\s*(off|on|[-+]?\d*\.?\d+)?", re.IGNORECASE)


def parse_adjustments(text: str, known: Sequence[str]) -> tuple[frozenset[str], dict[str, float]]:
    """(concepts that are off, strengths) from lines like `rex 0.8` and `fox off`. CCVDError names a bad line."""
    off, strengths = set(), {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise CCVDError(
                f"Line {number} of the adjustments, {line!r}, should read `name 0.8`, `name off` or `name on`."
            )
        name, value = match[1].lower(), (match[2] or "on").lower()
        check_known([name], known)
        if value == "off":
            off.add(name)
        elif value != "on":
            if not -4.0 <= float(value) <= 4.0:
                raise CCVDError(f"The strength of {name!r} must be between -4 and 4; got {value}.")
            strengths[name] = float(value)
    return frozenset(off), strengths


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
            ],
            outputs=[LibraryType.Output("library_out", display_name="library"), io.String.Output("listing")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, library: str, adjust: str) -> str:
        return open_library(library).library_signature()

    @classmethod
    def execute(cls, library: str, adjust: str) -> io.NodeOutput:
        shelf = open_library(library)
        off, strengths = parse_adjustments(adjust, shelf.names())
        selection = LibrarySelection(shelf, off, strengths)
        lines, pictures, labels = [], [], []
        for header in shelf.headers():
            state = "off" if header.name in off else f"strength {strengths.get(header.name, 1.0):g}"
            lines.append(
                f"{header.order}. <{header.name}>  {header.kind}, {header.class_words!r}, rank {header.rank}, {state}"
            )
            if header.preview is not None:
                pictures.append(decode_picture(header.preview))
                labels.append(f"<{header.name}>")
        lines += [f"not usable: {problem}" for problem in shelf.problems()]
        listing = "\n".join(lines) or f"The library {library!r} is empty: learn a concept with Learn Concept."
        picture = grid(pictures, labels) if pictures else torch.zeros(1, 64, 64, 3)
        return io.NodeOutput(selection, listing, ui=ui.PreviewImage(picture, cls=cls))
