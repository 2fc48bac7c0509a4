"""UMT5 as Wan reads it, with its SentencePiece vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import EncodedText
from .text_pieces import sentencepiece_pieces


class Umt5Text:
    """A `UMT5EncoderModel`: contexts of `rows` rows, those after the text's end zero. The model is frozen here."""

    def __init__(self, model: nn.Module, vocabulary: bytes, rows: int) -> None:
        """`vocabulary` is a serialized SentencePiece model."""
        import sentencepiece

        self._model: Any = model.eval().requires_grad_(False)
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)
        self._rows = rows

    @torch.no_grad()
    def encode(self, text: str) -> EncodedText:
        """See `Backbone.encode`."""
        padded = torch.zeros(1, self._rows, dtype=torch.long, device=self._model.device)
        used = [*self._processor.encode(text), self._processor.eos_id()][: self._rows]
        padded[0, : len(used)] = torch.tensor(used, device=padded.device)
        mask = torch.arange(self._rows, device=padded.device)[None] < len(used)
        context: Tensor = self._model(input_ids=padded, attention_mask=mask).last_hidden_state * mask[..., None]
        pieces = self._processor.encode(text, out_type=str)[: self._rows]
        return EncodedText(context[0], sentencepiece_pieces(pieces))
