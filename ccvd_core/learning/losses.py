"""What learning makes small, for each kind of concept (DESIGN 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from ..concepts.kinds import KINDS, Kind, Loss
from ..errors import CCVDError
from .step import LearningSettings


def motion_loss(
    prediction: Float[Tensor, "batch channels frames height width"],
    target: Float[Tensor, "batch channels frames height width"],
    appearance_share: float,
    weight: Float[Tensor, "batch 1 frames height width"] | None = None,
) -> Float[Tensor, ""]:
    """Appearance-debiased loss: frame-to-frame differences of prediction and target (after MotionDirector, JointTuner).

    What all frames share, the look of the clip, cancels in the differences; `appearance_share` of the ordinary loss
    keeps the first frame anchored. `weight` says how much each place counts; a change counts as the later frame does. A
    single frame has no changes: CCVDError.
    """
    if prediction.shape[2] < 2:
        raise CCVDError("Changes from frame to frame need clips of at least 2 latent frames; got single pictures.")
    error = target - prediction
    changes = weighted_mean(error.diff(dim=2).square(), None if weight is None else weight[:, :, 1:])
    return (1 - appearance_share) * changes + appearance_share * weighted_mean(error.square(), weight)


def weighted_mean(
    values: Float[Tensor, "batch channels frames height width"],
    weight: Float[Tensor, "batch 1 frames height width"] | None,
) -> Float[Tensor, ""]:
    """sum(w v) / sum(w); the plain mean without weights."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1e-6)


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, LearningSettings, Tensor | None], Tensor]] = {
    "error": lambda prediction, target, _, weight: weighted_mean((prediction - target).square(), weight),
    "changes": lambda prediction, target, settings, weight: motion_loss(
        prediction, target, settings.appearance_share, weight
    ),
}
"""What learning makes small, of prediction, target and how much each place counts."""


def video_loss(
    prediction: Float[Tensor, "batch channels frames height width"],
    target: Float[Tensor, "batch channels frames height width"],
    kind: Kind,
    settings: LearningSettings,
    weight: Float[Tensor, "batch 1 frames height width"] | None = None,
) -> Float[Tensor, ""]:
    """The loss that is this kind's own; `weight` says how much each place counts (None: alike)."""
    return LOSSES[KINDS[kind].loss](prediction, target, settings, weight)
