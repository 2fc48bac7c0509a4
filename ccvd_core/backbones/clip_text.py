"""CLIP's text encoder in transformers, which text-to-video UNets read; and adding to any encoder's word embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .base import EncodedText
from .text_pieces import bpe_pieces


@contextmanager
def added_to_embeddings(
    embeddings: nn.Module, rows: Sequence[int], values: Float[Tensor, "batch n width"]
) -> Iterator[None]:
    """Let a text encoder read what its word `embeddings` give with `values` added at `rows` of every entry of a batch.

    Gradients go back to the values. Afterwards, also after an error, the encoder is as it was.
    """

    def add(module: nn.Module, args: Any, embedded: Float[Tensor, "batch rows width"]) -> Tensor:
        places = torch.tensor(list(rows), device=embedded.device)
        return embedded.index_add(1, places, values.to(embedded))

    handle = embeddings.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


class ClipText:
    """A `CLIPTextModel` with its tokenizer: `encode` and `encode_with` of a backbone. The model is frozen here."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self._model: Any = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer

    @torch.no_grad()
    def encode(self, text: str) -> EncodedText:
        """Context rows [77, width] of CLIP's last layer, as text-to-video pipelines of diffusers read them."""
        numbers = self._numbers(text)
        read = numbers[0].tolist()
        end = read.index(self._tokenizer.eos_token_id)
        pieces = bpe_pieces(self._tokenizer.convert_ids_to_tokens(read[:end]), text)
        return EncodedText(self._model(numbers)[0][0], pieces)

    def encode_with(
        self, text: str, rows: Sequence[int], values: Float[Tensor, "layers n width"]
    ) -> Float[Tensor, "layers rows width"]:
        """All layers' contexts in one call of the encoder."""
        with added_to_embeddings(self._model.get_input_embeddings(), rows, values):
            return self._model(self._numbers(text).expand(len(values), -1))[0]

    def _numbers(self, text: str) -> Int[Tensor, "one rows"]:
        read = self._tokenizer(text, padding="max_length", truncation=True, max_length=self._rows, return_tensors="pt")
        return read["input_ids"].to(self._model.device)

    @property
    def _rows(self) -> int:
        return self._model.config.max_position_embeddings
