"""What a concept is learned from: a picture or clip with its caption, and the caption as the model reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..concepts.concept import TokenInjection
from ..errors import LearningError
from ..prompts.concept_tokens import PlacedTokens, layer_contexts, own_rows, place_tokens, read_tokens
from ..prompts.mentions import Prompt, mention_rows, named_concepts, parse_prompt


@dataclass(frozen=True)
class Example:
    """One picture or clip to learn from: latents as the model wants them, its caption with `<name>` in it, what the
    model is shown with it (see `ConceptPrompt`), and where what is to be learned is (1: there, 0: elsewhere)."""

    latents: Float[Tensor, "channels frames height width"]
    caption: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    mask: Float[Tensor, "1 frames height width"] | None = None
    item: int | None = None
    """Number of the picture or clip that it is of; None: of one of its own."""


@dataclass(frozen=True)
class ReadExample:
    """An example with its caption encoded once, in float32 on the learner's device."""

    latents: Tensor
    context: Float[Tensor, "rows width"]
    prompt: Prompt
    pieces: tuple[str, ...]
    shown: Mapping[str, Any]
    mask: Tensor | None = None

    @property
    def word_rows(self) -> int:
        """Text rows of the class words at their first mention."""
        return len(mention_rows(self.pieces, self.prompt.mentions[0]))

    def place(
        self, backbone: Backbone, name: str, tokens: Float[Tensor, "layers words width"], injection: TokenInjection
    ) -> tuple[PlacedTokens, ...]:
        """A concept's tokens on its rows of the caption. Those before the encoder are read by it here, every time."""
        placed = place_tokens(self.prompt, self.pieces, {name: tokens}, {name: injection})
        return read_tokens(backbone, self.prompt.text, self.context, placed)


def read_example(
    example: Example, backbone: Backbone, name: str, class_words: str, device: torch.device
) -> ReadExample:
    """Encode an example's caption. Raises LearningError if it does not name the concept."""

    def kept(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, torch.float32).clone()

    caption = example.caption.strip() or f"<{name}>"
    if name not in named_concepts(caption):
        raise LearningError(
            f"The caption {caption!r} does not say where the concept is: write <{name}> in it, "
            f"for example 'a <{name}> on grass'."
        )
    prompt = parse_prompt(caption, {name: class_words})
    encoded = backbone.encode(prompt.text)
    shown = {key: kept(value) if torch.is_tensor(value) else value for key, value in example.shown.items()}
    mask = None if example.mask is None else kept(example.mask)
    return ReadExample(kept(example.latents), kept(encoded.context), prompt, encoded.pieces, shown, mask)


def loss_weights(
    examples: Sequence[ReadExample], outside: float
) -> Float[Tensor, "batch 1 frames height width"] | None:
    """How much each place counts: 1 where an example's mask is 1 or it has none, `outside` where it is 0.

    None where no example has a mask.
    """
    if all(example.mask is None for example in examples):
        return None
    masks = [torch.ones_like(e.latents[:1]) if e.mask is None else e.mask for e in examples]
    return outside + (1 - outside) * torch.stack(masks)


def concept_keys(
    backbone: Backbone,
    examples: Sequence[ReadExample],
    name: str,
    tokens: Float[Tensor, "layers words width"],
    injection: TokenInjection,
) -> tuple[Float[Tensor, "layers width"], Float[Tensor, "layers width"]]:
    """h and its class-words twin: mean over the concept's rows on its training prompts, unit norm (DESIGN 2.2)."""
    own, bare = [], []
    for example in examples:
        placed = example.place(backbone, name, tokens, injection)
        rows = sorted(own_rows(placed)[name])
        own.append(layer_contexts(example.context, len(tokens), placed)[:, rows])
        bare.append(example.context[rows].expand(len(tokens), -1, -1))
    own_key, bare_key = (F.normalize(torch.cat(parts, 1).mean(1), dim=-1) for parts in (own, bare))
    return own_key, bare_key
