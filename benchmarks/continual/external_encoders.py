"""CLIP and DINO as judges, for who has them: folders in the format of transformers, with safetensors. No downloads.

CLIP reads text, DINO does not. Both see single pictures; a clip's embedding is the mean of its frames', so motions are
invisible to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from encoder import check_clips, unit
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, CLIPModel, Dinov2Model

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32
"""Frames looked at at a time."""


class ClipEncoder:
    """CLIP: pictures and captions in one space."""

    name = "clip"

    def __init__(self, folder: Path) -> None:
        check_folder(folder, "CLIP")
        self._model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        config: Any = self._model.config  # its fields may also be lists, in models of other shapes
        self._side: int = config.vision_config.image_size

    def embed_frames(self, clips: Tensor) -> Tensor:
        """[n, frames, d] of clips [n, frames, height, width, 3] in 0..1."""
        return each_frame(clips, self._side, CLIP_MEAN, CLIP_STD, self._pictures)

    def embed_clips(self, clips: Tensor) -> Tensor:
        """[n, d]: the mean of the frames' embeddings."""
        return unit(self.embed_frames(clips).mean(1))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[n, d] of captions."""
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return unit(self._model.text_projection(self._model.text_model(**tokens).pooler_output))

    def _pictures(self, pictures: Tensor) -> Tensor:
        return self._model.visual_projection(self._model.vision_model(pictures).pooler_output)


class DinoEncoder:
    """DINOv2: pictures by their class token."""

    name = "dino"

    def __init__(self, folder: Path) -> None:
        check_folder(folder, "DINOv2")
        self._model = Dinov2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        config: Any = self._model.config
        self._side: int = 16 * config.patch_size  # 224 at the usual patches of 14

    def embed_frames(self, clips: Tensor) -> Tensor:
        """[n, frames, d] of clips [n, frames, height, width, 3] in 0..1."""
        return each_frame(clips, self._side, IMAGENET_MEAN, IMAGENET_STD, self._pictures)

    def embed_clips(self, clips: Tensor) -> Tensor:
        """[n, d]: the mean of the frames' embeddings."""
        return unit(self.embed_frames(clips).mean(1))

    def embed_texts(self, texts: Sequence[str]) -> None:
        """DINO reads no text."""

    def _pictures(self, pictures: Tensor) -> Tensor:
        return self._model(pictures).pooler_output


def check_folder(folder: Path, what: str) -> None:
    """Refuse a folder that has no model; a name that is no folder would otherwise be looked for on a server."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no {what} model in {folder}: a folder needs config.json and model.safetensors")


@torch.no_grad()
def each_frame(
    clips: Tensor, side: int, mean: Sequence[float], std: Sequence[float], embed: Callable[[Tensor], Tensor]
) -> Tensor:
    """Unit vectors [n, frames, d] of every frame of clips, scaled to `side` pixels and normalised."""
    check_clips(clips)
    pictures = clips.flatten(0, 1).sub(torch.tensor(mean)).div(torch.tensor(std)).permute(0, 3, 1, 2)
    parts = [
        embed(functional.interpolate(part, (side, side), mode="bicubic", antialias=True))
        for part in pictures.split(BATCH)
    ]
    return unit(torch.cat(parts)).unflatten(0, clips.shape[:2])
