"""What stands in the head of a concept file: our metadata and the adapters' sizes, checked without reading a tensor."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .concept import BaseFingerprint, Concept, Kind
from .errors import CCVDError, ConceptFileError
from .whole_files import advice

SUFFIX = ".safetensors"
FORMAT = "ccvd concept"
VERSION = 1
PREFIX = "ccvd."
"""Of the metadata that are ours. Metadata that other tools add are left out of account."""

ADAPTER_KEY = re.compile(
    r"diffusion_model\.(?P<site>\w+(?:\.\w+)*)\.(?P<part>lora_A\.weight|lora_B\.weight|alpha)", re.ASCII
)
PARTS = ("lora_A.weight", "lora_B.weight", "alpha")
ADAPTER_TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Number formats an adapter may have, and their bytes."""
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit for names, shapes and metadata."""

MAX_ORDER = 10**9
"""More than anyone learns: a file that says more must not keep the next concept from getting a number."""

NOT_A_CONCEPT = "Use a file that Learn Concept wrote."
DAMAGED = "Copy it again from where it came from, or delete it and learn the concept again."


@dataclass(frozen=True)
class ConceptHeader:
    """What can be told about a concept without reading its tensors. Sizes are counts of numbers, `file_bytes` apart."""

    name: str
    kind: Kind
    class_words: str
    order: int
    rank: int
    base: BaseFingerprint
    layers: int
    rows: int
    """Text rows of the class words."""
    width: int
    parameters: int
    """Of all adapters."""
    file_bytes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    preview: bytes | None = None


@dataclass(frozen=True)
class TensorEntry:
    """What a safetensors header says of one tensor."""

    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FileHeader:
    """A safetensors header that has been checked: our metadata without their prefix, and the adapters' entries."""

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, TensorEntry]
    file_bytes: int

    def text(self, key: str) -> str:
        if key not in self.metadata:
            raise damaged(self.path, f"expected the entry {PREFIX + key} in its metadata; it is missing")
        return self.metadata[key]

    def value(self, key: str, expected: type | tuple[type, ...]) -> Any:
        try:
            value = json.loads(self.text(key))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, expected) or isinstance(value, bool):
            raise damaged(self.path, f"its entry {PREFIX + key} cannot be read: {shorten(self.text(key))}")
        return value

    def blob(self, key: str) -> bytes:
        try:
            return base64.b64decode(self.text(key), validate=True)
        except ValueError:
            raise damaged(self.path, f"its entry {PREFIX + key} is not base64") from None

    def shape(self, key: str, axes: int) -> tuple[int, ...]:
        shape = self.value(f"{key}.shape", list)
        if len(shape) != axes or not all(type(size) is int and size > 0 for size in shape):
            raise damaged(self.path, f"expected {axes} sizes above 0 for its {key}; got {shorten(str(shape))}")
        return tuple(shape)

    def tensor(self, key: str, axes: int) -> Tensor:
        """A float32 tensor, bit for bit as it was saved."""
        shape, data = self.shape(key, axes), self.blob(key)
        if len(data) != 4 * math.prod(shape):
            raise damaged(
                self.path, f"expected {4 * math.prod(shape)} bytes for its {key} {list(shape)}; got {len(data)}"
            )
        return torch.tensor(struct.unpack(f"<{len(data) // 4}f", data)).reshape(shape)

    def base(self) -> BaseFingerprint:
        """The base model's fingerprint."""
        value = self.value("base", dict)
        architecture, signature = value.get("architecture"), value.get("signature")
        if not isinstance(architecture, str) or not isinstance(signature, list):
            raise damaged(self.path, "its base model's fingerprint is incomplete")
        # JSON has whole numbers beyond any float, which math.isfinite does not take.
        if not all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in signature):
            raise damaged(self.path, "its base model's fingerprint has values that are not numbers")
        return BaseFingerprint(architecture, tuple(float(number) for number in signature))

    def sites(self) -> list[str]:
        """The Linears it adapts. Raises ConceptFileError unless each has A, B and alpha that fit together."""
        sites = sorted({match["site"] for name in self.entries if (match := ADAPTER_KEY.fullmatch(name))})
        if len(self.entries) != len(PARTS) * len(sites):
            known = {key for site in sites for key in adapter_keys(site)}
            odd = sorted(known ^ set(self.entries))
            raise damaged(self.path, f"expected lora_A, lora_B and alpha for every adapter; not so for {odd[0]}")
        for site in sites:
            a, b, alpha = (self.entries[key] for key in adapter_keys(site))
            fits = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] >= 1 and math.prod(alpha.shape) == 1
            if not fits:
                raise damaged(
                    self.path,
                    f"the adapter of {site} needs A [rank, in], B [out, rank] and one alpha; got {list(a.shape)}, "
                    f"{list(b.shape)} and {list(alpha.shape)}",
                )
        return sites

    def rank(self) -> int:
        """Largest rank of its adapters, 0 without adapters."""
        rank = max((self.entries[adapter_keys(site)[0]].shape[0] for site in self.sites()), default=0)
        if self.value("rank", int) != rank:
            raise damaged(self.path, f"it says rank {self.text('rank')}, but its adapters have rank {rank}")
        return rank


def read_header(path: Path) -> ConceptHeader:
    """What a concept file says of itself, without its tensors. The checksum is checked by `load_concept` only.

    Raises ConceptFileError for files that are foreign, newer, cut off or evidently damaged.
    """
    return describe(parse_header(path, *read_start(path)))


def read_start(path: Path) -> tuple[bytes, int]:
    """(the file up to its tensors, bytes of the whole file). Raises ConceptFileError."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(LENGTH_BYTES)
            return start + file.read(header_end(path, start, size) - LENGTH_BYTES), size
    except OSError as error:
        raise unreadable(path, error) from error


def header_end(path: Path, start: bytes, size: int) -> int:
    """Where the tensors' bytes begin, from the file's first eight."""
    length = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= MAX_HEADER_BYTES:
        raise ConceptFileError(
            f"{path} is not a concept: expected a safetensors file that Learn Concept wrote; got {size} bytes of "
            f"something else, or a file that was cut off. {DAMAGED}"
        )
    if LENGTH_BYTES + length > size:
        raise damaged(path, f"expected at least {LENGTH_BYTES + length} bytes; got {size}. It was cut off")
    return LENGTH_BYTES + length


def parse_header(path: Path, start: bytes, size: int) -> FileHeader:
    """Check a safetensors header: `start` is the file up to its tensors, `size` the whole file's bytes."""
    try:
        header = json.loads(start[LENGTH_BYTES:])
    except (ValueError, RecursionError):
        raise damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a table")
    strings = header.pop("__metadata__", {})
    if not isinstance(strings, dict) or not all(isinstance(text, str) for text in strings.values()):
        raise damaged(path, "its metadata are not texts")
    metadata = {key.removeprefix(PREFIX): text for key, text in strings.items() if key.startswith(PREFIX)}
    check_format(path, metadata)
    ends = [0]
    entries: dict[str, TensorEntry] = {}
    for name, entry in header.items():
        entries[name], end = tensor_entry(path, name, entry)
        ends.append(end)
    if len(start) + max(ends) != size:
        raise damaged(path, f"expected {len(start) + max(ends)} bytes; got {size}. It was cut off or added to")
    return FileHeader(path, metadata, entries, size)


def check_format(path: Path, metadata: Mapping[str, str]) -> None:
    """Refuse foreign files and those of a newer pack."""
    if metadata.get("format") != FORMAT:
        raise ConceptFileError(
            f"{path} is not a concept: expected metadata saying {FORMAT!r}; got "
            f"{shorten(metadata.get('format', 'none'))}. Ordinary LoRAs are loaded with ComfyUI's Load LoRA "
            f"node. {NOT_A_CONCEPT}"
        )
    version = metadata.get("version", "")
    if not re.fullmatch(r"[1-9][0-9]{0,8}", version, re.ASCII):
        raise damaged(path, f"its format version is not a number: {shorten(version)}")
    if int(version) > VERSION:
        raise ConceptFileError(
            f"{path} was written by a newer version of this pack: expected format version {VERSION}; got {version}. "
            "Update the pack."
        )


def tensor_entry(path: Path, name: str, entry: object) -> tuple[TensorEntry, int]:
    """One tensor of the header, and where its bytes end."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [int(first), int(last)]}:
            pass
        case _:
            raise damaged(path, f"its header does not describe the tensor {shorten(name)}")
    if not ADAPTER_KEY.fullmatch(name):
        raise damaged(path, f"expected only diffusion_model.*.lora_A, .lora_B and .alpha; got {shorten(name)}")
    if kind not in ADAPTER_TYPES:
        raise damaged(path, f"expected one of {', '.join(ADAPTER_TYPES)} for {name}; got {shorten(kind)}")
    good = all(type(length) is int and length >= 0 for length in shape)
    if not good or first < 0 or last - first != ADAPTER_TYPES[kind] * math.prod(shape):
        raise damaged(path, f"the size of the tensor {name} does not fit its shape {shorten(str(shape))}")
    return TensorEntry(kind, tuple(shape)), last


def describe(header: FileHeader) -> ConceptHeader:
    """The header as the library lists it."""
    layers, rows, width = header.shape("tokens", 3)
    weights = [key for site in header.sites() for key in adapter_keys(site)[:2]]
    kind: Any = header.text("kind")
    about = ConceptHeader(
        name=header.text("name"),
        kind=kind,
        class_words=header.text("class_words"),
        order=header.value("order", int),
        rank=header.rank(),
        base=header.base(),
        layers=layers,
        rows=rows,
        width=width,
        parameters=sum(math.prod(header.entries[key].shape) for key in weights),
        file_bytes=header.file_bytes,
        settings=header.value("settings", dict),
        preview=header.blob("preview") if "preview" in header.metadata else None,
    )
    check_words(header.path, about)
    return about


def check_words(path: Path, about: ConceptHeader) -> None:
    """Name, kind, class words and order by the same rules as a concept's own, without its tensors."""
    if not 0 <= about.order <= MAX_ORDER:
        raise damaged(path, f"its learning order must be 0 to {MAX_ORDER}; got {shorten(str(about.order))}")
    none = torch.zeros(1, 1)
    try:
        Concept(about.name, about.kind, about.class_words, {}, none.unsqueeze(0), none, none, about.base)
    except CCVDError as error:
        raise damaged(path, str(error).rstrip(".")) from error


def adapter_keys(site: str) -> tuple[str, str, str]:
    """Names of A, B and alpha of a Linear in the file."""
    a, b, alpha = (f"diffusion_model.{site}.{part}" for part in PARTS)
    return a, b, alpha


def damaged(path: Path, why: str) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} is damaged: {why}. {DAMAGED}")


def unreadable(path: Path, error: OSError) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} cannot be read: {advice(error)}")


def shorten(text: str, length: int = 60) -> str:
    """Foreign text for a message."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")
