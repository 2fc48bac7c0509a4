"""A concept as one safetensors file (DESIGN 4).

The tensors are the adapters under LoRA names that ComfyUI and diffusers both load; all else stands in the file's
metadata (`concept_header.py`), so that to every other tool the file is an ordinary LoRA. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .concept import Concept, LowRank
from .concept_header import (
    ADAPTER_KEY,
    FORMAT,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    MAX_ORDER,
    PREFIX,
    VERSION,
    adapter_keys,
    damaged,
    describe,
    header_end,
    parse_header,
    read_start,
    unreadable,
)
from .errors import CCVDError, ConceptFileError, LibraryError
from .whole_files import advice, write_whole


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


@torch.inference_mode(False)
def load_outline(path: Path) -> Concept:
    """A concept without its adapters, from the file's header alone: what aggregation needs to tell how relevant it is.

    Tens of times smaller than the file. The checksum, which covers the adapters too, is checked by `load_concept` only.
    Raises ConceptFileError.
    """
    header = parse_header(path, *read_start(path))
    about = describe(header)
    try:
        return Concept(
            about.name,
            about.kind,
            about.class_words,
            {},
            finite(path, "tokens", header.tensor("tokens", 3)),
            finite(path, "keys", header.tensor("keys", 2)),
            finite(path, "class keys", header.tensor("class_keys", 2)),
            about.base,
            about.order,
        )
    except ConceptFileError:
        raise
    except CCVDError as error:
        raise damaged(path, str(error).rstrip(".")) from error


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


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def low_rank(a: Tensor, b: Tensor, alpha: Tensor) -> LowRank:
    return LowRank(a, b, alpha.item() / a.shape[0])


def finite(path: Path, what: str, tensor: Tensor) -> Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise damaged(path, f"its {what} have values that are not finite numbers")
    return tensor
