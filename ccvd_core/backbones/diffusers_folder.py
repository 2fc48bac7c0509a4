"""A folder in which diffusers keeps a text-to-video model: its parts, their configurations, and their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CCVDError, shorten

EXPECTED = (
    "Choose the folder of a text-to-video model in diffusers' layout, such as ModelScope text-to-video "
    "(damo-vilab/text-to-video-ms-1.7b) or ZeroScope, as a folder of ComfyUI/models/diffusers."
)


@dataclass(frozen=True)
class FolderPart:
    """One part of such a folder: the class that its configuration names, and the files that may hold its weights."""

    folder: str
    kind: str
    weights: str
    """Without its ending: `.safetensors`, or `.fp16.safetensors`."""


UNET = FolderPart("unet", "UNet3DConditionModel", "diffusion_pytorch_model")
VAE = FolderPart("vae", "AutoencoderKL", "diffusion_pytorch_model")
TEXT = FolderPart("text_encoder", "CLIPTextModel", "model")
ENDINGS = (".fp16.safetensors", ".safetensors")
TOKENIZER_FILES = ("vocab.json", "merges.txt")


@dataclass(frozen=True)
class FoundPart:
    config: Mapping[str, Any]
    weights: Path


@dataclass(frozen=True)
class TextToVideoFolder:
    """What lies in a folder; `tokenizer` is a folder of its own."""

    path: Path
    unet: FoundPart
    vae: FoundPart
    text: FoundPart
    tokenizer: Path
    scheduler: Mapping[str, Any]


def read_folder(path: Path) -> TextToVideoFolder:
    """The parts of a folder. Raises CCVDError, saying what was found, for one that is not such a model."""
    if not path.is_dir():
        raise CCVDError(f"There is no folder {path}. {EXPECTED}")
    unet, vae, text = (found_part(path, part) for part in (UNET, VAE, TEXT))
    scheduler = read_config(path, "scheduler/scheduler_config.json", "a scheduler")
    missing = [name for name in TOKENIZER_FILES if not (path / "tokenizer" / name).is_file()]
    if missing:
        raise not_one(path, f"its tokenizer lacks {' and '.join(missing)}")
    return TextToVideoFolder(path, unet, vae, text, path / "tokenizer", scheduler)


def found_part(path: Path, part: FolderPart) -> FoundPart:
    config = read_config(path, f"{part.folder}/config.json", f"a {part.kind}")
    kinds = [config.get("_class_name"), *(config.get("architectures") or ())]
    if part.kind not in kinds:
        found = next((kind for kind in kinds if isinstance(kind, str)), "a model of no name")
        raise not_one(path, f"{part.folder} holds {shorten(found)[1:-1]} and not {part.kind}")
    for ending in ENDINGS:
        file = path / part.folder / f"{part.weights}{ending}"
        if file.is_file():
            return FoundPart(config, file)
    files = sorted(file.name for file in (path / part.folder).iterdir() if file.name != "config.json")
    there = shorten(", ".join(files), 200)[1:-1] if files else "nothing"
    raise not_one(
        path,
        f"{part.folder} has no {part.weights}.safetensors, only {there} (weights in .bin files are not read, since "
        "such a file can run code)",
    )


def read_config(path: Path, name: str, what: str) -> Mapping[str, Any]:
    file = path / name
    if not file.is_file():
        inside = sorted(entry.name for entry in path.iterdir())
        there = ", ".join(inside[:12]) if inside else "nothing"
        raise not_one(path, f"there is no {name} in it, of {what}; in it is {shorten(there, 200)[1:-1]}")
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError:
        raise not_one(path, f"{name} is damaged: it is no JSON") from None
    if not isinstance(config, dict):
        raise not_one(path, f"{name} is damaged: it is no configuration")
    return config


def not_one(path: Path, why: str) -> CCVDError:
    return CCVDError(f"The folder {shorten(path.name)} is no text-to-video model that can be loaded: {why}. {EXPECTED}")
