"""What a concept file says of itself in its head, as the library lists it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..errors import CCVDError
from .concept import BaseFingerprint, Concept, TokenInjection
from .file_header import FileHeader, adapter_keys, damaged
from .file_reading import read_file_header
from .kinds import AnyKind

MAX_ORDER = 10**9
"""More than anyone learns: a file that says more must not keep the next concept from getting a number."""
MAX_PREVIEW_BYTES = 1024**2
"""Of a preview worth showing; Learn Concept's take some ten thousand."""


@dataclass(frozen=True)
class ConceptHeader:
    """What can be told about a concept without reading its tensors. Sizes are counts of numbers, `file_bytes` apart."""

    name: str
    kind: AnyKind
    class_words: str
    order: int
    rank: int
    base: BaseFingerprint
    layers: int
    rows: int
    """Text rows of the class words that have tokens: none of an imported LoRA."""
    width: int
    parameters: int
    """Of all adapters."""
    file_bytes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    preview: bytes | None = None
    token_injection: TokenInjection = "output"


def read_header(path: Path) -> ConceptHeader:
    """What a concept file says of itself, without its tensors. The checksum is checked by `load_concept` only.

    Raises ConceptFileError for files that are foreign, newer, cut off or evidently damaged.
    """
    return describe(read_file_header(path))


def describe(header: FileHeader) -> ConceptHeader:
    """The header as the library lists it. A preview that is far too large is left out: the concept can still act."""
    preview = header.blob("preview") if "preview" in header.metadata else None
    layers, rows, width = header.shape("tokens", 3)
    sites = header.sites()
    weights = [key for site in sites for key in adapter_keys(site)[:2]]
    kind: Any = header.text("kind")
    injection: Any = header.metadata.get("token_injection", "output")  # files from before there was a choice lack it
    about = ConceptHeader(
        name=header.text("name"),
        kind=kind,
        class_words=header.text("class_words"),
        order=header.value("order", int),
        rank=header.rank(sites),
        base=header.base(),
        layers=layers,
        rows=rows,
        width=width,
        parameters=sum(math.prod(header.entries[key].shape) for key in weights),
        file_bytes=header.file_bytes,
        settings=header.value("settings", dict),
        preview=None if preview is None or len(preview) > MAX_PREVIEW_BYTES else preview,
        token_injection=injection,
    )
    check_words(header.path, about)
    return about


def check_words(path: Path, about: ConceptHeader) -> None:
    """Name, kind, class words, order and token injection by the same rules as a concept's own, without its tensors."""
    if not 0 <= about.order <= MAX_ORDER:
        raise damaged(path, f"its learning order must be 0 to {MAX_ORDER}; got {about.order}")
    none, tokens = torch.zeros(1, 1), torch.zeros(1, min(about.rows, 1), 1)
    try:
        Concept(
            about.name,
            about.kind,
            about.class_words,
            {},
            tokens,
            none,
            none,
            about.base,
            token_injection=about.token_injection,
        )
    except CCVDError as error:
        raise damaged(path, str(error).rstrip(".")) from error
