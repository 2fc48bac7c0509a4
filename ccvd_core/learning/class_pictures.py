"""Class pictures against drift: prior preservation (DreamBooth, Ruiz et al. 2023, eq. 2).

Before the first step the model itself makes a few pictures of the class words, at the sizes of the lesson's own. Each
step then learns as many of them beside the concept's, loss = concept loss + class_weight * class loss, so that what the
concept's adapters do to everything else stays small. That costs one more forward and backward pass per step, one after
the other: no more memory.

The class prompt is the class words alone, without the concept's tokens, and the concept acts on it at full weight. With
`own_words_only` its adapters of keys and values reach only text rows that are its own, of which the class prompt has
none; what is kept from drifting is the rest, the queries and outputs, self-attention and feed-forward, which act on the
whole picture wherever the concept is named. Without it all adapters act on every row, as in DreamBooth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..attaching.attachment import Attachment
from ..backbones.base import Backbone
from ..concepts.kinds import Kind
from ..prompts.concept_prompt import ConceptPrompt
from ..prompts.mentions import Prompt
from ..sampling import sample
from .batch_loss import batch_loss
from .example import ReadExample
from .lesson_prompts import plain_prompt
from .processes import ALONE, Processes
from .step import SEED_STRIDE, STREAM_STRIDE, LearningSettings, draw_step
from .trained import Learned

CLASS_STEPS = 20
"""Sampling steps of a class picture."""
UNGUIDED = 1.0
"""Its cfg. Pictures under guidance are not what the model itself says, and learning them moves it towards them: on the
demo base two to three times as far as without class pictures. Those made without halve the drift
(`tests/demo/test_drift.py`)."""
CLASS_STREAM, MAKING_STREAM = 1, 2
"""Of chance, for the steps and for making them: the concept's own draws stay what they are without class pictures."""


class ClassPictures:
    """The class pictures of one lesson; until `make` or a saved progress fills them, they are empty.

    A model that is shown a start image makes them from the lesson's own, so that they keep how it goes on from those. A
    model for a range of noise alone makes them by itself all the same, over the whole schedule.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_words: str,
        kind: Kind,
        examples: Sequence[ReadExample],
        settings: LearningSettings,
    ) -> None:
        self._kind: Kind = kind
        self._settings = settings
        device = examples[0].latents.device

        context = backbone.encode(class_words).context.detach().to(device, torch.float32).clone()
        models = [examples[number % len(examples)] for number in range(settings.class_pictures)]
        self._pictures = [
            ReadExample(torch.zeros_like(model.latents), context, Prompt(class_words), (), model.shown)
            for model in models
        ]
        self.made = False

    def tensors(self) -> dict[str, Tensor]:
        """Their latents, as a part of the lesson's state: what is copied into these is taken up."""
        return {f"class.{number}": picture.latents for number, picture in enumerate(self._pictures)}

    def make(
        self, backbone: Backbone, attachment: Attachment, say: Callable[[str], None], tick: Callable[[], None]
    ) -> None:
        """Make them, if they are not there. The seed decides what they show; `tick` may raise to stop."""
        for number, picture in enumerate([] if self.made else self._pictures, 1):
            say(f"Making class picture {number} of {len(self._pictures)}")
            seed = self._settings.seed * SEED_STRIDE + MAKING_STREAM * STREAM_STRIDE + number
            noise = torch.randn(1, *picture.latents.shape, generator=torch.Generator().manual_seed(seed))
            prompt = plain_prompt(backbone, picture.context, picture.shown)
            latents = sample(
                backbone, attachment, [prompt], prompt, noise.to(picture.latents), CLASS_STEPS, UNGUIDED, on_step=tick
            )
            picture.latents.copy_(latents[0])
        self.made = True

    def loss(
        self, backbone: Backbone, attachment: Attachment, learned: Learned, step: int, processes: Processes = ALONE
    ) -> Float[Tensor, ""]:
        """The class loss of a step, without gradients: `class_weight` times them have gone to `learned`.

        Of several `processes`, of this one's share.
        """
        shapes = [picture.latents.shape for picture in self._pictures]
        drawn = draw_step(shapes, self._settings, step, CLASS_STREAM)
        drawn = drawn.part(processes.share(len(drawn.rows)))
        pictures = [self._pictures[row] for row in drawn.rows]
        prompts = [self.prompt(backbone, picture) for picture in pictures]
        share = self._settings.class_weight
        return batch_loss(backbone, attachment, learned, pictures, prompts, drawn, self._kind, self._settings, share)

    def prompt(self, backbone: Backbone, picture: ReadExample) -> ConceptPrompt:
        """The class prompt with the concept acting on it, its keys and values on no row of it if on own words only."""
        everywhere = torch.ones(backbone.layers, 1, device=picture.context.device)
        reached = 0.0 if self._settings.own_words_only else 1.0
        gates = torch.full((len(picture.context), 1), reached, device=picture.context.device)
        return ConceptPrompt(picture.context, (), everywhere, gates, picture.shown)
