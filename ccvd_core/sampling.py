"""A plain Euler sampler over any backbone: previews while learning, headless use, benchmarks. Graphs use ComfyUI's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from .backbones.attachment import Attachment
from .backbones.base import Backbone, ConceptPrompt


def flow_times(steps: int, shift: float) -> Float[Tensor, " steps_plus_one"]:
    """Times from 1 (noise) to 0 (clean), shifted towards noise: s t / (1 + (s - 1) t), as Wan samples."""
    t = torch.linspace(1, 0, steps + 1)
    return shift * t / (1 + (shift - 1) * t)


@torch.no_grad()
def sample(
    backbone: Backbone,
    attachment: Attachment,
    prompts: Sequence[ConceptPrompt],
    negative: ConceptPrompt,
    noise: Float[Tensor, "batch channels frames height width"],
    steps: int = 20,
    cfg: float = 3.0,
    shift: float = 3.0,
    on_step: Callable[[], None] = lambda: None,
) -> Float[Tensor, "batch channels frames height width"]:
    """Latents for one prompt per batch row; `negative` is shared. `on_step` may raise to stop."""
    latents = noise
    times = flow_times(steps, shift).to(noise)
    guided = cfg != 1.0
    rows = [*prompts, *([negative] * len(prompts))] if guided else list(prompts)
    for t, next_t in pairwise(times):
        on_step()
        batch = torch.cat([latents, latents]) if guided else latents
        with attachment.activate(rows, batch.device):
            velocity = backbone.predict(batch, t.expand(len(batch)), rows).to(latents)
        if guided:
            positive, base = velocity.chunk(2)
            velocity = base + cfg * (positive - base)
        latents = latents + (next_t - t) * velocity
    return latents
