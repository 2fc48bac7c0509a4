"""What Wan models compute beside the clip: reference pictures, which have no time in it and belong to no region.

Some are frames of the latents themselves (VACE, Animate), before the clip's own; artists cut them off afterwards.
Others are tokens that the model adds to each call, before or after those of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from .wan_sites import wan_grid

EMPTY = 1e-2
"""Latents of nothing are zeros up to rounding; no picture's are."""


def vace_references(conditions: Mapping[str, Tensor]) -> int:
    """Leading frames of which VACE is told only a picture: 16 channels of it, then zeros, and a mask of zeros."""
    context = conditions.get("vace_context")
    if context is None:
        return 0
    # [batch, contexts, channels, frames, height, width]
    told = context[:, :, 16:].abs().amax((2, 4, 5))
    return leading((told < EMPTY).all(0).any(0).tolist())


def animate_references(conditions: Mapping[str, Tensor]) -> int:
    """Leading frames that Animate is given as its character: those before its poses, or one."""
    given = conditions.get("c_concat")
    if given is None or not bool((given[:, :4, 0] == 1).all()):
        return 0
    poses = conditions.get("pose_latents")
    return 1 if poses is None else max(1, given.shape[2] - poses.shape[2])


IN_LATENTS: tuple[tuple[str, Callable[[Mapping[str, Tensor]], int]], ...] = (
    ("vace_patch_embedding", vace_references),
    ("face_adapter", animate_references),
)
"""By a module that only such a model has: how many of the latents' first frames are references."""


def leading(flags: Sequence[bool]) -> int:
    """How many are true before the first that is not."""
    return next((place for place, flag in enumerate(flags) if not flag), len(flags))


def reference_frames(model: Any, conditions: Iterable[Mapping[str, Tensor]]) -> int:
    """How many of the latents' first frames are reference pictures, from what each conditioning tells the model."""
    counts = [count for module, count in IN_LATENTS if hasattr(model, module)]
    return max((count(condition) for condition in conditions for count in counts), default=0)


@dataclass(frozen=True)
class AddedTokens:
    """The argument `name` of a model with the module `module` adds tokens to a call."""

    module: str
    name: str
    place: Literal["before", "after"]
    count: Callable[[Sequence[int], Sequence[int]], int]
    """Of the argument's shape and the model's patch size."""


def patches(shape: Sequence[int], patch_size: Sequence[int]) -> int:
    """Tokens of latents [batch, channels, frames, height, width], or of a picture [batch, channels, height, width]."""
    return wan_grid((1, *shape[-2:]) if len(shape) == 4 else shape, patch_size).tokens


def packed_motion(shape: Sequence[int], _: Sequence[int]) -> int:
    """Tokens of the frames before the clip: the last, 2 before it and 16 before those, ever more coarsely."""
    height, width = shape[-2:]
    return (height // 2) * (width // 2) + (height // 4) * (width // 4) + 4 * (height // 8) * (width // 8)


IN_CALL = (
    AddedTokens("ref_conv", "reference_latent", "before", patches),
    AddedTokens("patch_embedding_pose", "reference_latent", "before", patches),
    AddedTokens("patch_embedding_pose", "pose_latents", "after", patches),
    AddedTokens("audio_proj", "reference_latent", "after", patches),
    AddedTokens("frame_packer", "reference_latent", "after", patches),
    AddedTokens("frame_packer", "reference_motion", "after", packed_motion),
    AddedTokens("patch_embedding", "context_latents", "after", patches),
    AddedTokens("patch_embedding", "time_dim_concat", "after", patches),
)


def added_tokens(model: Any, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens that a call with these arguments puts before and after those of the latents."""
    counts = {"before": 0, "after": 0}
    for row in IN_CALL:
        given = arguments.get(row.name)
        if given is None or getattr(model, row.module, None) is None:
            continue
        for latents in given if isinstance(given, list | tuple) else (given,):
            counts[row.place] += row.count(latents.shape, model.patch_size)
    return counts["before"], counts["after"]
