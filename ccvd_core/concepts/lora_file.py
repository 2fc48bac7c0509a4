"""LoRA files of other tools as a concept's adapters. Nothing is unpickled, and nothing is left out without a word."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import LoraFileError, WrongBaseError, shorten
from .concept import LowRank
from .file import not_usable
from .file_header import ADAPTER_TYPES, FORMAT, MAX_TENSORS, PREFIX
from .file_reading import MAX_FILE_BYTES
from .lora_keys import Part, Place, places_by_name, sorted_keys, without_prefix
from .whole_files import advice

MAX_RANK = 256
"""Of an adapter: with it on every Linear, the largest models' concepts stay below the largest file."""
MAX_KEY = 500
MOST_LEFT_OUT = 0.1
"""Share of a LoRA's change, as squared norm of its deltas, that may sit where no concept acts."""
ScaleOf = Callable[[str, int], float]
"""What a Linear's name in the file and its rank say of alpha / rank, where the file has no alpha of its own."""


@dataclass(frozen=True)
class LoraAdapters:
    """What a LoRA file gives a concept; scales are folded into B.

    `left_out` are Linears of the file, by the file's own names, that no concept can adapt in this model, and
    `left_share` the share of the whole change that they hold.
    """

    adapters: Mapping[str, LowRank]
    left_out: tuple[str, ...] = ()
    left_share: float = 0.0


# ComfyUI's nodes run in inference mode; tensors made in it could never meet autograd, and retention needs them to.
@torch.inference_mode(False)
def read_lora(path: Path, places: Iterable[Place], scale_of: ScaleOf | None = None) -> LoraAdapters:
    """The adapters of a LoRA file, as float32, on the Linears `places` of a model.

    Raises LoraFileError for what is no LoRA, is another type of adapter, or is damaged, and WrongBaseError for a LoRA
    of another model; each says what was found and what to do.
    """
    what = f"The LoRA file {path.name}"
    with opened(path, what) as file:
        keys = checked_keys(file, what)
        modules, known = sorted_keys(keys, what), places_by_name(places)
        scale_of = scale_of or written_scales(file.metadata() or {}, what) or (lambda name, rank: 1.0)
        adapters: dict[str, LowRank] = {}
        left_out: list[str] = []
        squares = [0.0, 0.0]
        for name, parts in modules.items():
            check_sizes(file, name, parts, what)
            place = known.get(without_prefix(name))
            if place is not None and place.id in adapters:
                raise LoraFileError(
                    f"{what} has two adapters for {place.id}, the second as {shorten(name)}. Save each in a file of "
                    "its own."
                )
            if place is not None:
                check_place(file, parts, place, what)
            adapter = read_adapter(file, name, parts, scale_of, what)
            squares[place is None] += squared_norm(adapter)
            if place is None:
                left_out.append(name)
            else:
                adapters[place.id] = adapter
    share = squares[1] / max(sum(squares), 1e-30)
    check_left_out(what, len(adapters), left_out, share, known)
    return LoraAdapters(adapters, tuple(left_out), share)


@contextmanager
def opened(path: Path, what: str) -> Iterator[Any]:
    """A safetensors file that is ordinary and of a size to expect. Raises LoraFileError."""
    if path.suffix.lower() != ".safetensors":
        raise LoraFileError(
            f"{what} cannot be imported: expected a .safetensors file; got {shorten(path.suffix or 'no ending')}. "
            "Files of other kinds can run programs when they are opened. Save it as safetensors."
        )
    try:
        status = os.stat(path)
    except OSError as error:
        raise LoraFileError(f"{what} cannot be read: {advice(error)}") from error
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
        raise LoraFileError(
            f"{what} cannot be imported: expected an ordinary file of at most {MAX_FILE_BYTES / 1024**3:.0f} GB. Use "
            "another file."
        )
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise LoraFileError(f"{what} is damaged ({error}). Download or save it again.") from error


def checked_keys(file: Any, what: str) -> list[str]:
    """The file's keys. Raises LoraFileError for a concept's own file, and for keys beyond all bounds."""
    if (file.metadata() or {}).get(f"{PREFIX}format") == FORMAT:
        raise LoraFileError(
            f"{what} is a concept already, with tokens that an import would lose. Copy it into a library, "
            "models/ccvd/<library>, instead."
        )
    keys = list(file.keys())
    if len(keys) > MAX_TENSORS or any(len(key) > MAX_KEY for key in keys):
        raise LoraFileError(
            f"{what} is no LoRA: expected at most {MAX_TENSORS} tensors with names of at most {MAX_KEY} characters. "
            "Use another file."
        )
    return keys


def written_scales(metadata: Mapping[str, str], what: str) -> ScaleOf | None:
    """diffusers keeps alpha in the metadata, as PEFT's configuration; None if it is not there."""
    if "lora_adapter_metadata" not in metadata:
        return None
    from .peft_config import diffusers_scales  # imports PEFT, which takes seconds

    return diffusers_scales(metadata["lora_adapter_metadata"], what)


def check_sizes(file: Any, name: str, parts: Mapping[Part, str], what: str) -> None:
    """Raise LoraFileError unless A is [rank, in], B [out, rank] and alpha one number, in types to expect."""
    shapes: dict[Part, list[int]] = {}
    for part, key in parts.items():
        entry = file.get_slice(key)
        shapes[part] = list(entry.get_shape())
        if entry.get_dtype() not in ADAPTER_TYPES:
            raise LoraFileError(
                f"{what} has numbers of the type {entry.get_dtype()} in {shorten(key)}: expected one of "
                f"{', '.join(ADAPTER_TYPES)}. Save it in one of these."
            )
    a, b, alpha = shapes["a"], shapes["b"], shapes.get("alpha", [])
    if len(a) > 2 or len(b) > 2:
        raise LoraFileError(
            f"{what} cannot be imported: expected adapters of Linears; got one of a convolution at {shorten(name)} "
            f"({a} and {b}). Put ComfyUI's Load LoRA in front of Aggregate Adapters for this file."
        )
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b) or alpha not in ([], [1]):
        raise LoraFileError(
            f"{what} is damaged: the adapter of {shorten(name)} needs A [rank, in], B [out, rank] and one alpha; got "
            f"{a}, {b} and {alpha}. Download or save it again."
        )
    if a[0] > MAX_RANK:
        raise LoraFileError(
            f"{what} has rank {a[0]} at {shorten(name)}: expected at most {MAX_RANK}. Reduce it with a resize script "
            "for LoRAs, or use ComfyUI's Load LoRA."
        )


def check_place(file: Any, parts: Mapping[Part, str], place: Place, what: str) -> None:
    found = file.get_slice(parts["a"]).get_shape()[1], file.get_slice(parts["b"]).get_shape()[0]
    if found != (place.in_features, place.out_features):
        raise WrongBaseError(
            f"{what} was made for another model: it adapts {place.id} from {found[0]} to {found[1]} numbers, the model "
            f"connected has {place.in_features} to {place.out_features}. Connect the model it was made for, or one of "
            "the same size."
        )


def read_adapter(file: Any, name: str, parts: Mapping[Part, str], scale_of: ScaleOf, what: str) -> LowRank:
    """B A with the scale in B. Raises LoraFileError for numbers that a model could not compute with."""
    a, b = (file.get_tensor(parts[part]).to(torch.float32, copy=True) for part in ("a", "b"))
    rank = a.shape[0]
    alpha = file.get_tensor(parts["alpha"]).double().item() if "alpha" in parts else None
    scale = scale_of(name, rank) if alpha is None else alpha / rank
    b *= scale
    for part, tensor in (("A", a), ("B times alpha / rank", b)):
        if why := not_usable(tensor):
            raise LoraFileError(
                f"{what} cannot be used: {part} of {shorten(name)} has values {why}. Download it again; if that does "
                "not help, its training went wrong."
            )
    return LowRank(a, b)


def squared_norm(adapter: LowRank) -> float:
    """|B A|_F^2 = tr(B^T B A A^T), without making B A."""
    a, b = adapter.a.double(), adapter.b.double()
    return float(((b.T @ b) * (a @ a.T)).sum())


def check_left_out(what: str, adapted: int, left_out: list[str], share: float, known: Mapping[str, Place]) -> None:
    if not adapted:
        example = next(iter(known), "none")
        raise WrongBaseError(
            f"{what} was made for another model: none of its {len(left_out)} layers is one that a concept adapts here. "
            f"Expected names such as {example}; got {shorten(left_out[0])}. Connect the model it was made for."
        )
    if share > MOST_LEFT_OUT:
        raise LoraFileError(
            f"{what} cannot be imported: {share:.0%} of its change sits in {len(left_out)} layers that concepts do not "
            f"adapt, for example {shorten(left_out[0])}; expected at most {MOST_LEFT_OUT:.0%}. Put ComfyUI's Load LoRA "
            "in front of Aggregate Adapters for this file; it then acts on the whole video."
        )
