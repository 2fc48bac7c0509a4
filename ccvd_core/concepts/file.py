"""A concept as one safetensors file (DESIGN 4).

The tensors are the adapters under LoRA names that ComfyUI and diffusers both load; all else stands in the file's
metadata (`concept_header.py`), so that to every other tool the file is an ordinary LoRA. Nothing is ever unpickled.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..errors import CCVDError, ConceptFileError, LibraryError
from .concept import Concept, LowRank
from .file_header import ADAPTER_KEY, FORMAT, LENGTH_BYTES, PREFIX, VERSION, FileHeader, adapter_keys, damaged
from .file_reading import MAX_HEADER_BYTES, read_file_header, read_whole
from .header import MAX_ORDER, describe
from .plain_json import parse_json
from .whole_files import advice, write_whole

RESERVED_BYTES = 4 * 1024**2
"""Of a file's head for names, sizes and the preview, beside tokens and keys."""
LARGEST = 65504.0
"""Of float16: what is larger becomes infinite, and the video black, on models that compute in it."""


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
    try:
        header, tensors = read_tensors(path)
    except MemoryError as error:
        raise ConceptFileError(
            f"There is not enough memory for the concept file {path}. Close other programs, or delete it and learn the "
            "concept again with a lower rank."
        ) from error
    for name in sorted(tensors):
        if why := not_usable(tensors[name]):
            raise damaged(path, f"the tensor {name} has values {why}")
    if digest(header.metadata, tensors) != header.text("digest"):
        raise damaged(path, "its contents do not add up to the checksum it was written with")
    adapters = {site: low_rank(*(tensors[key] for key in adapter_keys(site))) for site in header.sites()}
    for site, adapter in adapters.items():
        if why := not_usable(adapter.b * adapter.scale):
            raise damaged(path, f"the adapter of {site} times its alpha has values {why}")
    preview = header.blob("preview") if "preview" in header.metadata else None
    return concept_of(header, adapters, preview)


@torch.inference_mode(False)
def load_outline(path: Path) -> Concept:
    """A concept without its adapters, from the file's header alone: what aggregation needs to tell how relevant it is.

    Tens of times smaller than the file. The checksum, which covers the adapters too, is checked by `load_concept` only.
    Raises ConceptFileError.
    """
    return concept_of(read_file_header(path), {}, None)


def read_tensors(path: Path) -> tuple[FileHeader, dict[str, Tensor]]:
    header, data = read_whole(path, describe)
    try:
        return header, safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise damaged(path, f"its tensors cannot be read ({error})") from error


def concept_of(header: FileHeader, adapters: Mapping[str, LowRank], preview: bytes | None) -> Concept:
    """A concept with what its file's header says of it. Raises ConceptFileError."""
    about, tensors = describe(header), {}
    for key, what, axes in (("tokens", "tokens", 3), ("keys", "keys", 2), ("class_keys", "class keys", 2)):
        tensors[key] = header.tensor(key, axes)
        if why := not_usable(tensors[key]):
            raise damaged(header.path, f"its {what} have values {why}")
    try:
        return Concept(
            name=about.name,
            kind=about.kind,
            class_words=about.class_words,
            adapters=adapters,
            base=about.base,
            order=about.order,
            settings=about.settings,
            preview=preview,
            token_injection=about.token_injection,
            **tensors,
        )
    except CCVDError as error:
        raise damaged(header.path, str(error).rstrip(".")) from error


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


def check_words_fit(name: str, layers: int, rows: int, width: int) -> None:
    """Raise CCVDError for class words of more text rows than a file holds: before they are learned, not after."""
    needed = layers * (rows + 2) * width * 4 * 4 // 3 + RESERVED_BYTES
    if needed > MAX_HEADER_BYTES:
        most = (MAX_HEADER_BYTES - RESERVED_BYTES) * 3 // (16 * layers * width) - 2
        raise CCVDError(
            f"The class words of <{name}> take {rows} words or parts of words of the text encoder; a concept file of "
            f"this model holds {most}. Use fewer, for example `little dog`."
        )


def check_readable(concept: Concept, path: Path) -> None:
    """Raise ConceptFileError for an order that a reader would refuse."""
    if not 0 <= concept.order <= MAX_ORDER:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its learning order must be 0 to {MAX_ORDER}; got "
            f"{concept.order}. Use a library without a concept of such an order."
        )


def adapter_tensors(concept: Concept, path: Path) -> dict[str, Tensor]:
    """A, B and alpha of every adapter under their names in the file, copied to the CPU."""
    tensors: dict[str, Tensor] = {}
    for site, adapter in sorted(concept.adapters.items()):
        alpha = torch.tensor(adapter.scale * adapter.rank, dtype=torch.float32)
        for key, tensor in zip(adapter_keys(site), (adapter.a, adapter.b, alpha), strict=True):
            if not ADAPTER_KEY.fullmatch(key):
                raise ConceptFileError(f"Concept {concept.name!r} cannot be saved to {path}: bad Linear id {site!r}.")
            tensors[key] = finite_to_save(concept, path, key, tensor)
        finite_to_save(concept, path, f"{site} times its alpha", adapter.b * adapter.scale)
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
        "token_injection": concept.token_injection,
    }
    base = {"architecture": concept.base.architecture, "signature": list(concept.base.signature)}
    try:
        metadata["base"] = json.dumps(base, sort_keys=True, allow_nan=False)
        metadata["settings"] = json.dumps(dict(concept.settings), sort_keys=True, allow_nan=False)
        for key in ("base", "settings"):
            parse_json(metadata[key])
    except (TypeError, ValueError) as error:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: its settings and fingerprint must be plain finite "
            f"values ({error})."
        ) from error
    if concept.preview is not None:
        metadata["preview"] = base64.b64encode(concept.preview).decode()
    for key, tensor in (("tokens", concept.tokens), ("keys", concept.keys), ("class_keys", concept.class_keys)):
        values = finite_to_save(concept, path, key, tensor.float())
        if not values.numel() and not (key == "tokens" and concept.kind == "lora"):
            raise ConceptFileError(
                f"Concept {concept.name!r} cannot be saved to {path}: its {key} are empty {list(values.shape)}. "
                "Class words must take up at least one text row."
            )
        metadata[f"{key}.shape"] = json.dumps(list(values.shape))
        metadata[key] = base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()
    return metadata


def finite_to_save(concept: Concept, path: Path, key: str, tensor: Tensor) -> Tensor:
    """A copy on the CPU. Raises ConceptFileError for numbers that are not finite."""
    copy = tensor.detach().cpu().contiguous().clone()
    if not copy.is_floating_point() or copy.dtype.itemsize < 2:
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: {key} must be float32 or float16; got {copy.dtype}."
        )
    if why := not_usable(copy):
        raise ConceptFileError(
            f"Concept {concept.name!r} cannot be saved to {path}: {key} has values {why}. "
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


def low_rank(a: Tensor, b: Tensor, alpha: Tensor) -> LowRank:
    return LowRank(a, b, alpha.item() / a.shape[0])


def not_usable(tensor: Tensor) -> str:
    """Why a model could not compute with these numbers; empty if it can."""
    if not tensor.numel() or bool(tensor.abs().amax() <= LARGEST):  # false for NaN
        return ""
    if not bool(torch.isfinite(tensor).all()):
        return "that are not finite numbers"
    return f"beyond {LARGEST:g}, the largest number of models in 16 bits"
