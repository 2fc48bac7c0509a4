"""Reading prompts with ComfyUI's CLIP object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...ccvd_core.backbones.base import EncodedText, EncodeWith
from ...ccvd_core.errors import CCVDError


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder as ComfyUI holds it."""

    title: str
    load: str
    """How to load it, in the words of ComfyUI's nodes."""
    tokenizer: str
    """The attribute of the CLIP's tokenizer that only this encoder has."""
    tokens: str
    """The key of its tokens in what `tokenize` gives."""
    end: str
    """The piece that ends a text."""
    pieces: Callable[[Any], Callable[[int], str]]
    """From that attribute: token number -> piece."""
    spell: Callable[[Sequence[str], str], tuple[str, ...]]
    """Its pieces of a text, and that text -> `EncodedText.pieces`."""
    embeddings: Callable[[Any], Any] | None = None
    """From a CLIP: its word embeddings, where it is small enough to read a prompt once per layer."""


class PromptReader:
    """A CLIP as the core wants it: text in, context rows and pieces out. Raises CCVDError unless it is of this encoder.

    `conditioning` keeps what the stock nodes would have made of the first text.
    """

    def __init__(self, clip: Any, encoder: TextEncoder) -> None:
        tokenizer = getattr(clip.tokenizer, encoder.tokenizer, None)
        if tokenizer is None:
            raise CCVDError(f"CCVD needs {encoder.title} for this model. Connect {encoder.load}.")
        self._clip, self._encoder = clip, encoder
        self._piece = encoder.pieces(tokenizer)
        self.conditioning: list[Any] = []
        self.encode_with: EncodeWith | None = self._with_tokens if encoder.embeddings else None

    def __call__(self, text: str) -> EncodedText:
        tokens = self._clip.tokenize(text)
        pieces = [self._piece(int(token)) for batch in tokens[self._encoder.tokens] for token, *_ in batch]
        end = pieces.index(self._encoder.end) if self._encoder.end in pieces else len(pieces)
        conditioning = self._clip.encode_from_tokens_scheduled(tokens)
        self.conditioning = self.conditioning or conditioning
        return EncodedText(conditioning[0][0][0], self._encoder.spell(pieces[:end], text))

    def _with_tokens(self, text: str, rows: Sequence[int], values: Tensor) -> Tensor:
        """See `EncodeWith`. Changed words are given as ComfyUI's textual inversions are, one pass after another."""
        embeddings: Any = self._encoder.embeddings and self._encoder.embeddings(self._clip)
        tokens, contexts = self._clip.tokenize(text), []
        for own in values:
            # A long prompt is read in parts of equal length, whose rows count on.
            parts = [list(part) for part in tokens[self._encoder.tokens]]
            for row, added in zip(rows, own, strict=True):
                part, place = divmod(row, len(parts[0]))
                token, *rest = parts[part][place]
                word = embeddings.weight[int(token)]
                parts[part][place] = (word.float() + added.to(word.device), *rest)
            contexts.append(self._clip.encode_from_tokens({**tokens, self._encoder.tokens: parts}))
        return torch.cat(contexts)
