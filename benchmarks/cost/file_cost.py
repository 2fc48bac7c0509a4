"""What a concept takes on disk, and what a large library costs to list and to load."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from base import DemoBase
from timing import Row, seconds_of
from wan_shapes import WAN, random_concept

from ccvd_core.backbones.base import Backbone
from ccvd_core.concepts.file import save_concept
from ccvd_core.concepts.library import HEADERS, OUTLINES, ConceptLibrary

RANKS, CONCEPTS, SMALL_RANK, WIDE_CONCEPTS = (4, 16, 32), 500, 4, 1000
WRITTEN = {"wan13b": RANKS, "wan14b": RANKS[:1]}
"""Files that are really written; the others by `file_bytes`, which these check."""
OVERHEAD = 0.01
"""Names, offsets and settings in the header, as a share of the file: what `file_bytes` leaves out."""
MB = 1e6


def file_bytes(backbone: Backbone, rank: int, rows: int = 1) -> int:
    """Bytes of a subject's file: fp32 adapters, and tokens, keys and class keys as base64 (4/3) of fp32."""
    wanted = set(backbone.site_ids("subject"))
    adapters = sum(rank * (s.in_features + s.out_features) + 1 for s in backbone.sites if s.id in wanted)
    return adapters * 4 + backbone.layers * (rows + 2) * backbone.text_width * 4 * 4 // 3


def written_bytes(backbone: Backbone, rank: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.safetensors"
        save_concept(random_concept(backbone, "c", 0, rank), path)
        return path.stat().st_size


def file_rows() -> Iterator[Row]:
    for name, size in WAN.items():
        backbone = size.backbone()
        for rank in RANKS:
            stated = file_bytes(backbone, rank)
            if rank in WRITTEN[name]:
                written = written_bytes(backbone, rank)
                if abs(written - stated) > OVERHEAD * written:
                    raise RuntimeError(f"{name}, rank {rank}: {written} bytes written, {stated} by the formula")
                stated = written
            yield f"concept_file_{name}_rank{rank}", "MB", stated / MB


def fill(library: ConceptLibrary, backbone: Backbone, count: int) -> None:
    """So many concepts in learning order, without the checks that `add` makes for each."""
    library.folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        concept = random_concept(backbone, f"c{index}", index, SMALL_RANK, index + 1)
        save_concept(concept, library.folder / f"{concept.name}.safetensors")


def fill_with_copies(library: ConceptLibrary, backbone: Backbone, count: int) -> None:
    """So many names of one concept's file: links, which take no room and are read one by one all the same."""
    fill(library, backbone, 1)
    for index in range(1, count):
        os.link(library.folder / "c0.safetensors", library.folder / f"c{index}.safetensors")


def listing_seconds(library: ConceptLibrary) -> tuple[float, float]:
    """Seconds to list a library for the first time in a process, and again."""
    HEADERS.clear()
    return seconds_of(library.headers), seconds_of(library.headers)


def library_rows(base: DemoBase) -> Iterator[Row]:
    """500 concepts of the demo base's shape (files in the disk's cache), and a thousand of Wan 1.3B's to be listed."""
    with tempfile.TemporaryDirectory() as folder:
        library = ConceptLibrary(Path(folder))
        fill(library, base.backbone(), CONCEPTS)
        first, again = listing_seconds(library)
        names = library.names()
        everything = seconds_of(lambda: [library.load(name) for name in names])
        yield f"library_{CONCEPTS}_list_first", "seconds", first
        yield f"library_{CONCEPTS}_list_again", "seconds", again
        yield f"library_{CONCEPTS}_load_one", "seconds", seconds_of(lambda: library.load(names[-1]))
        yield f"library_{CONCEPTS}_load_all", "seconds", everything
        yield f"library_{CONCEPTS}_list_first", "load_all", first / everything
    with tempfile.TemporaryDirectory() as folder:
        library = ConceptLibrary(Path(folder))
        fill_with_copies(library, WAN["wan13b"].backbone(), WIDE_CONCEPTS)
        first, again = listing_seconds(library)
        yield "library_wan13b_list_first_per_concept", "seconds", first / WIDE_CONCEPTS
        yield f"library_wan13b_{WIDE_CONCEPTS}_list_again", "seconds", again
        yield f"library_wan13b_{WIDE_CONCEPTS}_list_again", "list_first", again / first
        OUTLINES.clear()
        first, again = (seconds_of(lambda: library.usable_outlines(library.names())) for _ in range(2))
        yield f"library_wan13b_{WIDE_CONCEPTS}_outlines_again", "outlines_first", again / first
