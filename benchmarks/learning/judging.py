"""What clips of one concept are measured by: shares and means over the clips of a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from bases import Base
from lessons import LessonPlan
from numpy.typing import NDArray
from scene_parts import PARTS
from torch import Tensor
from world.judge import score
from world.scenes import Scene


def through_model(base: Base, clips: Tensor) -> Tensor:
    """Clips [n, frames, height, width, 3] in 0..1 as the model's VAE carries them."""
    pixels: NDArray[np.uint8] = (clips * 255).round().byte().numpy()
    return base.to_clips(torch.stack([base.encoded(clip) for clip in pixels]))


def concept_metrics(base: Base, plan: LessonPlan, clips: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """`identity`: the concept is seen. `text_alignment`: everything else that the caption says holds. `object`: who is
    in the first frame is still there in the last one. `crispness`: of the clips in which somebody is found."""

    def reconstruct(real: Tensor) -> Tensor:
        return through_model(base, real)

    scores = [score(clip, scene, reconstruct) for clip, scene in zip(clips, scenes, strict=True)]
    judged = [PARTS[plan.kind].judged(one) for one in scores]
    crisp = [one.crispness for one in scores if one.crispness is not None]
    return {
        "identity": float(np.mean([seen for seen, _ in judged])),
        "text_alignment": float(np.mean([rest for _, rest in judged])),
        "object": float(np.mean([one.object for one in scores])),
        "crispness": float(np.mean(crisp)) if crisp else 0.0,
    }
