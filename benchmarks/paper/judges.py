"""The paper's metrics, with CLIP and DINOv2 from folders: CLIP-T, CLIP-I, DINO-I and temporal consistency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from external_encoders import ClipEncoder, DinoEncoder
from metrics import cosine, temporal_consistency
from torch import Tensor

from ccvd_core.learning.lesson_items import LessonItem
from ccvd_core.learning.media import to_floats

METRICS = ("clip_t", "clip_i", "dino_i", "temporal_consistency")


@dataclass(frozen=True)
class References:
    """What a concept looks like: embeddings [frames, d] of the pictures, or of the clips' frames, that it is learned
    from."""

    clip: Tensor
    dino: Tensor


@dataclass(frozen=True)
class Judges:
    """CLIP and DINOv2."""

    clip: ClipEncoder
    dino: DinoEncoder

    def references(self, items: Sequence[LessonItem]) -> References:
        """Of a lesson's pictures and clips."""
        clips = [to_floats(part).permute(0, 2, 3, 4, 1) for item in items for part in item.pieces]
        return References(
            *(torch.cat([encoder.embed_frames(clip)[0] for clip in clips]) for encoder in (self.clip, self.dino))
        )

    def measure(self, clips: Sequence[Tensor], texts: Sequence[str], references: References) -> dict[str, float]:
        """Means over clips [frames, height, width, 3] in 0..1 that should show `texts` and the references.

        `clip_i` and `dino_i`: mean cosine of every frame with every reference. `clip_t`: of a clip, the mean of its
        frames, with its text. `temporal_consistency`: of neighbouring frames, by CLIP.
        """
        found: dict[str, list[float]] = {metric: [] for metric in METRICS}
        for clip, text in zip(clips, texts, strict=True):
            frames, others = self.clip.embed_frames(clip[None]), self.dino.embed_frames(clip[None])
            found["clip_t"].append(cosine(self.clip.embed_clips(clip[None]), self.clip.embed_texts([text])))
            found["clip_i"].append(float((frames[0] @ references.clip.T).mean()))
            found["dino_i"].append(float((others[0] @ references.dino.T).mean()))
            found["temporal_consistency"].append(temporal_consistency(frames))
        return {metric: sum(values) / len(values) for metric, values in found.items()}
