"""What the head of a concept file may say: our metadata and the adapters' sizes, checked one by one and all bounded."""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConceptFileError, shorten
from .concept import BaseFingerprint
from .plain_json import parse_json
from .whole_files import advice

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
MAX_TENSORS = 16_384
"""Five thousand adapters: ten times those of a motion on a base model of 14 billion parameters."""
MAX_AXES = 2
MAX_ARCHITECTURE = 1000
NO_ROWS = ("tokens", 1)
"""The one axis that may be empty: an imported LoRA has tokens for no text row."""

NOT_A_CONCEPT = "Use a file that Learn Concept wrote."
DAMAGED = "Copy it again from where it came from, or delete it and learn the concept again."


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
            value = parse_json(self.text(key))
        except ValueError as error:
            raise damaged(
                self.path, f"its entry {PREFIX + key} cannot be read ({shorten(str(error))}): {shorten(self.text(key))}"
            ) from None
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
        good = all(type(n) is int and n >= ((key, axis) != NO_ROWS) for axis, n in enumerate(shape))
        if len(shape) != axes or not good:
            raise damaged(self.path, f"expected {axes} sizes above 0 for its {key}; got {shorten(shape)}")
        return tuple(shape)

    def tensor(self, key: str, axes: int) -> Tensor:
        """A float32 tensor, bit for bit as it was saved."""
        shape, data = self.shape(key, axes), self.blob(key)
        if len(data) != 4 * math.prod(shape):
            raise damaged(
                self.path, f"expected {4 * math.prod(shape)} bytes for its {key} {list(shape)}; got {len(data)}"
            )
        return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32)).reshape(shape)

    def base(self) -> BaseFingerprint:
        """The base model's fingerprint."""
        value = self.value("base", dict)
        architecture, signature = value.get("architecture"), value.get("signature")
        if not isinstance(architecture, str) or not isinstance(signature, list):
            raise damaged(self.path, "its base model's fingerprint is incomplete")
        if len(architecture) > MAX_ARCHITECTURE:
            raise damaged(self.path, f"its base model's name has {len(architecture)} characters")
        # math.isfinite would take no whole number beyond any float.
        if not all(type(number) in (int, float) and abs(number) <= sys.float_info.max for number in signature):
            raise damaged(self.path, "its base model's fingerprint has values that are not numbers")
        return BaseFingerprint(architecture, tuple(float(number) for number in signature))

    def sites(self) -> list[str]:
        """The Linears it adapts. Raises ConceptFileError unless each has A, B and alpha that fit together."""
        sites = sorted({match["site"] for name in self.entries if (match := ADAPTER_KEY.fullmatch(name))})
        if len(self.entries) != len(PARTS) * len(sites):
            known = {key for site in sites for key in adapter_keys(site)}
            odd = min(known ^ set(self.entries))
            raise damaged(self.path, f"expected lora_A, lora_B and alpha for every adapter; not so for {shorten(odd)}")
        for site in sites:
            a, b, alpha = (self.entries[key] for key in adapter_keys(site))
            fits = len(a.shape) == len(b.shape) == 2 and a.shape[0] == b.shape[1] and math.prod(alpha.shape) == 1
            if not fits or not all((*a.shape, *b.shape)):
                raise damaged(
                    self.path,
                    f"the adapter of {shorten(site)} needs A [rank, in], B [out, rank] and one alpha; got "
                    f"{list(a.shape)}, {list(b.shape)} and {list(alpha.shape)}",
                )
        return sites

    def rank(self, sites: Sequence[str]) -> int:
        """Largest rank of the adapters of its `sites`, 0 without adapters."""
        rank = max((self.entries[adapter_keys(site)[0]].shape[0] for site in sites), default=0)
        said = self.value("rank", int)
        if said != rank:
            raise damaged(self.path, f"it says rank {said}, but its adapters have rank {rank}")
        return rank


def parse_header(path: Path, start: bytes, size: int) -> FileHeader:
    """Check a safetensors header: `start` is the file up to its tensors, `size` the whole file's bytes."""
    try:
        header = parse_json(start[LENGTH_BYTES:])
    except ValueError as error:
        raise damaged(path, f"its header is not JSON that a concept has ({shorten(str(error))})") from None
    if not isinstance(header, dict):
        raise damaged(path, "its header is not a table")
    strings = header.pop("__metadata__", {})
    if not isinstance(strings, dict) or not all(isinstance(text, str) for text in strings.values()):
        raise damaged(path, "its metadata are not texts")
    metadata = {key.removeprefix(PREFIX): text for key, text in strings.items() if key.startswith(PREFIX)}
    check_format(path, metadata)
    if len(header) > MAX_TENSORS:
        raise damaged(path, f"expected at most {MAX_TENSORS} tensors; got {len(header)}")
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
        raise damaged(path, f"expected one of {', '.join(ADAPTER_TYPES)} for {shorten(name)}; got {shorten(kind)}")
    if len(shape) > MAX_AXES:
        raise damaged(path, f"expected at most {MAX_AXES} axes for the tensor {shorten(name)}; got {len(shape)}")
    good = all(type(length) is int and length >= 0 for length in shape)
    if not good or first < 0 or last - first != ADAPTER_TYPES[kind] * math.prod(shape):
        raise damaged(path, f"the size of the tensor {shorten(name)} does not fit its shape {shorten(shape)}")
    return TensorEntry(kind, tuple(shape)), last


def adapter_keys(site: str) -> tuple[str, str, str]:
    """Names of A, B and alpha of a Linear in the file."""
    a, b, alpha = (f"diffusion_model.{site}.{part}" for part in PARTS)
    return a, b, alpha


def damaged(path: Path, why: str) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} is damaged: {why}. {DAMAGED}")


def unreadable(path: Path, error: OSError) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} cannot be read: {advice(error)}")
