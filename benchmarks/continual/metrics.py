"""The benchmark's metrics, by the paper's names. All are 1 at best; forgetting is the fall of any of them.

`scenes[i]` is what clip i was asked to show. Two judges that share nothing give identity and text alignment:

- `identity`: share of clips that show the concept, read by the judge (`demo/world/judge.py`, nothing learned):
  the subject in the first and the last frame, the motion over the whole clip, the style. Yes or no, so it does not say
  how well a recognised concept is drawn.
- `text_alignment`: share of clips in which everything else in the caption holds, by the same judge.

and per encoder, from cosines of embeddings of norm 1 (-1..1, for comparing methods; what is a good value depends on the
encoder, and real clips have it):

- `identity_<encoder>`: cosine of each clip to the real, rendered clip of the same scene. For subjects and styles the
  mean over all pairs of frames, for motions of the two clips. The rest of the scene counts too: a wrong background
  lowers it. Only an encoder that reads time sees motions: CLIP and DINO average frames.
- `text_alignment_<encoder>`: cosine of each clip and its full caption, in the world's words, concept included. Only
  where the encoder reads text.
- `temporal_consistency_<encoder>`: mean cosine of the embeddings of neighbouring frames, as in the paper. It measures
  flicker, not motion and not quality: a frozen clip, or an empty one, has the maximum of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from drawing import shows
from encoder import check_clips
from lessons import LessonPlan
from torch import Tensor
from world.scenes import Scene

from ccvd_core.concepts.kinds import KINDS


class Encoder(Protocol):
    """Clips and captions -> vectors of norm 1. Clips are float [n, frames, height, width, 3] in 0..1."""

    @property
    def name(self) -> str:
        """What the names of its metrics end in."""
        ...

    def embed_frames(self, clips: Tensor) -> Tensor:
        """[n, frames, d]: every frame by itself."""
        ...

    def embed_clips(self, clips: Tensor) -> Tensor:
        """[n, d]: whole clips."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor | None:
        """[n, d] in the space of `embed_clips`; None from an encoder that reads no text."""
        ...


class Judge:
    """Measures clips against the scenes that they should show."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self._encoders = tuple(encoders)
        names = [encoder.name for encoder in encoders]
        if len(set(names)) < len(names):
            raise ValueError(f"expected encoders of different names, got {', '.join(names)}")

    def judge(self, plan: LessonPlan, clips: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
        """The metrics of clips [n, frames, height, width, 3] (float 0..1) of one concept, means over the clips."""
        check_clips(clips)
        if len(clips) != len(scenes):
            raise ValueError(f"expected one scene per clip, got {len(scenes)} scenes for {len(clips)} clips")
        seen = [shows(plan, clip, scene) for clip, scene in zip(clips, scenes, strict=True)]
        identity, text_alignment = np.mean(seen, 0).tolist()
        values = {"identity": identity, "text_alignment": text_alignment}
        real = torch.from_numpy(np.stack([scene.render(clips.shape[1]) for scene in scenes])).float() / 255
        captions = [scene.caption() for scene in scenes]
        for encoder in self._encoders:
            values |= measure(encoder, plan, clips, real, captions)
        return values


def measure(
    encoder: Encoder, plan: LessonPlan, clips: Tensor, real: Tensor, captions: Sequence[str]
) -> dict[str, float]:
    """The metrics of one encoder; clip i should look like `real[i]` and show `captions[i]`."""
    frames, whole = encoder.embed_frames(clips), encoder.embed_clips(clips)
    if KINDS[plan.kind].moves:
        identity = cosine(whole, encoder.embed_clips(real))
    else:  # the mean of all products of two frames is the product of their means
        identity = cosine(frames.mean(1), encoder.embed_frames(real).mean(1))
    values = {f"identity_{encoder.name}": identity}
    texts = encoder.embed_texts(captions)
    if texts is not None:
        values[f"text_alignment_{encoder.name}"] = cosine(whole, texts)
    values[f"temporal_consistency_{encoder.name}"] = temporal_consistency(frames)
    return values


def temporal_consistency(frames: Tensor) -> float:
    """Mean cosine of neighbouring frames, of embeddings [n, frames, d] of norm 1; 1 where there is one frame only."""
    return cosine(frames[:, 1:], frames[:, :-1]) if frames.shape[1] > 1 else 1.0


def cosine(one: Tensor, other: Tensor) -> float:
    """Mean inner product of the last axis."""
    return float((one * other).sum(-1).mean())
