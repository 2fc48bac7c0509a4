"""A concept as one safetensors file (DESIGN 4).

The tensors are the adapters under LoRA names that ComfyUI and diffusers both load; all else stands in the file's
metadata, so that to every other tool the file is an ordinary LoRA. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
import re
import secrets
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .concept import BaseFingerprint, Concept, Kind, LowRank
from .errors import CCVDError, ConceptFileError, LibraryError

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
class _TensorEntry:
    """What a safetensors header says of one tensor."""

    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _FileHeader:
    """A safetensors header that has been checked: our metadata without their prefix, and the adapters' entries."""

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, _TensorEntry]
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


def save_concept(concept: Concept, path: Path, *, replace: bool = True) -> None:
    """Write a concept to `path`, whole or not at all; the same concept always gives the same bytes.

    Without `replace` an existing file is kept and FileExistsError raised. Raises ConceptFileError for a concept that
    could not be read back, LibraryError when the disk does not take it; an existing file is then untouched.
    """
    data = encode_concept(concept, path)
    try:
        write_whole(path, data, replace)
    except OSError as error:
        if isinstance(error, FileExistsError) and not replace:
            raise
        raise LibraryError(f"Cannot write the concept to {path}: {advice(error)}") from error


# ComfyUI's nodes run in inference mode; tensors made in it could never meet autograd, and retention needs them to.
@torch.inference_mode(False)
def load_concept(path: Path) -> Concept:
    """Read a concept and check all of it. Raises ConceptFileError: what is wrong with the file and what to do."""
    data = read_bytes(path)
    header = parse_header(path, data[: header_end(path, data[:LENGTH_BYTES], len(data))], len(data))
    sites = header.sites()
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise damaged(path, f"its tensors cannot be read ({error})") from error
    for name in sorted(tensors):
        if not bool(torch.isfinite(tensors[name]).all()):
            raise damaged(path, f"the tensor {name} has values that are not finite numbers")
    if digest(header.metadata, tensors) != header.text("digest"):
        raise damaged(path, "its contents do not add up to the checksum it was written with")
    about = describe(header)
    try:
        return Concept(
            name=about.name,
            kind=about.kind,
            class_words=about.class_words,
            adapters={site: low_rank(*(tensors[key] for key in adapter_keys(site))) for site in sites},
            tokens=finite(path, "tokens", header.tensor("tokens", 3)),
            keys=finite(path, "keys", header.tensor("keys", 2)),
            class_keys=finite(path, "class keys", header.tensor("class_keys", 2)),
            base=about.base,
            order=about.order,
            settings=about.settings,
            preview=about.preview,
        )
    except ConceptFileError:
        raise
    except CCVDError as error:
        raise damaged(path, str(error).rstrip(".")) from error


def read_header(path: Path) -> ConceptHeader:
    """What a concept file says of itself, without its tensors. The checksum is checked by `load_concept` only.

    Raises ConceptFileError for files that are foreign, newer, cut off or evidently damaged.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(LENGTH_BYTES)
            start += file.read(header_end(path, start, size) - LENGTH_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    return describe(parse_header(path, start, size))


# Writing


def encode_concept(concept: Concept, path: Path) -> bytes:
    """The file's bytes; `path` is for messages. Raises ConceptFileError for what could not be read back."""
    check_readable(concept, path)
    tensors = adapter_tensors(concept, path)
    metadata = concept_metadata(concept, path)
    metadata["digest"] = digest(metadata, tensors)
    body = safetensors.torch.save(tensors)
    end = LENGTH_BYTES + int.from_bytes(body[:LENGTH_BYTES], "little")
    # safetensors writes metadata in an order that changes from run to run: put them in here, sorted.
    entries = json.loads(body[LENGTH_BYTES:end])
    ours = {"format": "pt", **{PREFIX + key: metadata[key] for key in sorted(metadata)}}
    header = json.dumps({"__metadata__": ours, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its tokens and keys take {len(header)} bytes, and "
            f"the file format holds {MAX_HEADER_BYTES}. Use fewer class words."
        )
    return len(header).to_bytes(LENGTH_BYTES, "little") + header + body[end:]


def check_readable(concept: Concept, path: Path) -> None:
    """Raise ConceptFileError for an order or class words that a reader would refuse."""
    if not 0 <= concept.order <= MAX_ORDER:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its learning order must be 0 to {MAX_ORDER}; got "
            f"{concept.order}. Use a library without a concept of such an order."
        )
    try:
        concept.class_words.encode()
    except UnicodeEncodeError:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its class words have half a character in them: "
            f"{concept.class_words!a}. Write them again."
        ) from None


def adapter_tensors(concept: Concept, path: Path) -> dict[str, Tensor]:
    """A, B and alpha of every adapter under their names in the file, copied to the CPU."""
    tensors: dict[str, Tensor] = {}
    for site, adapter in sorted(concept.adapters.items()):
        alpha = torch.tensor(adapter.scale * adapter.rank, dtype=torch.float32)
        for key, tensor in zip(adapter_keys(site), (adapter.a, adapter.b, alpha), strict=True):
            if not ADAPTER_KEY.fullmatch(key):
                raise ConceptFileError(f"Concept {concept.name!r} cannot be saved to {path}: bad Linear id {site!r}.")
            tensors[key] = finite_to_save(concept, path, key, tensor)
    return tensors


def concept_metadata(concept: Concept, path: Path) -> dict[str, str]:
    """All of a concept but its adapters, as strings."""
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "name": concept.name,
        "kind": concept.kind,
        "class_words": concept.class_words,
        "order": str(concept.order),
        "rank": str(concept.rank),
    }
    base = {"architecture": concept.base.architecture, "signature": list(concept.base.signature)}
    try:
        metadata["base"] = json.dumps(base, sort_keys=True, allow_nan=False)
        metadata["settings"] = json.dumps(dict(concept.settings), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its settings and fingerprint must be plain finite "
            f"values ({error})."
        ) from error
    if concept.preview is not None:
        metadata["preview"] = base64.b64encode(concept.preview).decode()
    for key, tensor in (("tokens", concept.tokens), ("keys", concept.keys), ("class_keys", concept.class_keys)):
        values = finite_to_save(concept, path, key, tensor.float())
        if not values.numel():
            raise ConceptFileError(
                f"Concept {concept.name!r} cannot be saved to {path}: its {key} are empty {list(values.shape)}. "
                "Class words must take up at least one text row."
            )
        metadata[f"{key}.shape"] = json.dumps(list(values.shape))
        metadata[key] = base64.b64encode(struct.pack(f"<{values.numel()}f", *values.flatten().tolist())).decode()
    return metadata


def finite_to_save(concept: Concept, path: Path, key: str, tensor: Tensor) -> Tensor:
    """A copy on the CPU. Raises ConceptFileError for numbers that are not finite."""
    copy = tensor.detach().cpu().contiguous().clone()
    if not copy.is_floating_point() or copy.dtype.itemsize < 2:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: {key} must be float32 or float16; got {copy.dtype}."
        )
    if not bool(torch.isfinite(copy).all()):
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: {key} has values that are not finite numbers. "
            "Learn it again with a lower learning rate."
        )
    return copy


def digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of our metadata and the tensors, however another tool may have arranged them in the file."""
    total = hashlib.sha256()
    for key in sorted(metadata.keys() - {"digest"}):
        total.update(json.dumps([key, metadata[key]]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_whole(path: Path, data: bytes, replace: bool = True) -> None:
    """Write a file that is either all there or not there: temporary file in the same folder, fsync, rename.

    Raises OSError, FileExistsError among them when the file exists and `replace` is off; no temporary file is left.
    """
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            publish(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken (FileExistsError).

    A hard link does both at once, on every system. Disks without hard links (exFAT, some network drives) reserve the
    name with an empty file first, which the finished one replaces.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        open(path, "xb").close()
        try:
            os.replace(temporary, path)
        except BaseException:
            path.unlink()
            raise


# Reading


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
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


def parse_header(path: Path, start: bytes, size: int) -> _FileHeader:
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
    entries: dict[str, _TensorEntry] = {}
    for name, entry in header.items():
        entries[name], end = tensor_entry(path, name, entry)
        ends.append(end)
    if len(start) + max(ends) != size:
        raise damaged(path, f"expected {len(start) + max(ends)} bytes; got {size}. It was cut off or added to")
    return _FileHeader(path, metadata, entries, size)


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


def tensor_entry(path: Path, name: str, entry: object) -> tuple[_TensorEntry, int]:
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
    return _TensorEntry(kind, tuple(shape)), last


def describe(header: _FileHeader) -> ConceptHeader:
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


def low_rank(a: Tensor, b: Tensor, alpha: Tensor) -> LowRank:
    return LowRank(a, b, alpha.item() / a.shape[0])


def finite(path: Path, what: str, tensor: Tensor) -> Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise damaged(path, f"its {what} have values that are not finite numbers")
    return tensor


# Messages


def damaged(path: Path, why: str) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} is damaged: {why}. {DAMAGED}")


def unreadable(path: Path, error: OSError) -> ConceptFileError:
    return ConceptFileError(f"The concept file {path} cannot be read: {advice(error)}")


def shorten(text: str, length: int = 60) -> str:
    """Foreign text for a message."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


ADVICE: Sequence[tuple[tuple[int, ...], str]] = (
    ((errno.ENOSPC, errno.EDQUOT), "the disk is full. Free some space and try again."),
    ((errno.EACCES, errno.EPERM, errno.EROFS), "access was denied. Check who may write there, or use another folder."),
    ((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder is expected. Move it or use another folder."),
    ((errno.ENOENT,), "it is not there. Check the folder and the name."),
    ((errno.EISDIR,), "it is a folder. Move it or use another name."),
)


def advice(error: OSError) -> str:
    """What an operating system's error means to an artist."""
    for numbers, text in ADVICE:
        if error.errno in numbers:
            return text
    return f"{error.strerror or error}. Check the disk and try again."
