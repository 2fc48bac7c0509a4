"""The kinds of folder that hold a whole text-to-video model: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import CCVDError
from .unet3d_folder import is_text_to_video_folder, load_text_to_video_folder
from .wan_folder import is_demo_base, is_wan_folder, load_demo_base, load_wan_folder
from .whole_model import WholeModel


@dataclass(frozen=True)
class FolderKind:
    """How such a folder is told, and loaded."""

    name: str
    tells: Callable[[Path], bool]
    load: Callable[[Path, torch.device, torch.dtype], WholeModel]


FOLDER_KINDS = (
    FolderKind("the demo base (demo/weights)", is_demo_base, load_demo_base),
    FolderKind("Wan 2.1 or 2.2 text-to-video, in diffusers' layout", is_wan_folder, load_wan_folder),
    FolderKind("ModelScope or ZeroScope, in diffusers' layout", is_text_to_video_folder, load_text_to_video_folder),
)


def load_whole_model(path: Path, device: torch.device | None = None, dtype: torch.dtype | None = None) -> WholeModel:
    """The model of a folder: in bfloat16 on the GPU if there is one, else in float32 on the processor.

    Raises CCVDError for a folder in which there is none that can be used.
    """
    if not path.is_dir():
        raise CCVDError(f"There is no folder {path}. Give the folder of a model: {kinds()}.")
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    for kind in FOLDER_KINDS:
        if kind.tells(path):
            return kind.load(path, device, dtype)
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
    raise CCVDError(f"In {path} is no model that can be used here, but {found}. Expected {kinds()}.")


def kinds() -> str:
    return "; ".join(kind.name for kind in FOLDER_KINDS)
