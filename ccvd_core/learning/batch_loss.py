"""The loss of one batch, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.kinds import Kind
from ..prompts.concept_prompt import ConceptPrompt
from ..regions.regional_prompt import predict_prompts, rows_of_one_length
from .example import ReadExample, loss_weights
from .losses import video_loss
from .step import LearningSettings, StepDraw
from .trained import Learned


def batch_loss(
    backbone: Backbone,
    attachment: Attachment,
    learned: Learned,
    examples: Sequence[ReadExample],
    prompts: Sequence[ConceptPrompt],
    drawn: StepDraw,
    kind: Kind,
    settings: LearningSettings,
    share: float = 1.0,
) -> Float[Tensor, ""]:
    """The mean loss of examples of one size, each with its prompt, under the noise of `drawn`; without gradients.

    Where gradients are on, `share` times the loss goes back to `learned` here, a part of the batch after the other.
    `attachment` must be attached.
    """
    weight = loss_weights(examples, settings.unmasked)
    clean = torch.stack([example.latents for example in examples])
    path, noise = backbone.noise_path, drawn.noise.to(clean)
    level = path.level(drawn.times.to(clean))
    noisy, target = path.mix(clean, noise, level), path.target(clean, noise, level)
    loss = torch.zeros((), device=clean.device)
    for rows in rows_of_one_length(prompts):
        attachment.set_adapters([learned.adapters])
        some = [prompts[row] for row in rows]
        with attachment.activate(some, clean.device):
            prediction = predict_prompts(backbone, noisy[rows], level[rows], some).float()
            counts = None if weight is None else weight[rows]
            part = video_loss(prediction, target[rows], kind, settings, counts) * (len(rows) / len(examples))
            if part.requires_grad:
                # Inside `activate`: recomputed blocks read the attachment's state again.
                (share * part).backward()
        loss += part.detach()
    return loss
