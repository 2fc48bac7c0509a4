"""Reading prompts with ComfyUI's CLIP object."""

from __future__ import annotations

from typing import Any

from ...ccvd_core.backbones.base import EncodedText
from ...ccvd_core.errors import CCVDError


class PromptReader:
    """A CLIP as the core wants it: text in, context rows and pieces out. Raises CCVDError unless it is Wan's UMT5.

    `conditioning` keeps what the stock nodes would have made of the first text.
    """

    def __init__(self, clip: Any) -> None:
        tokenizer = getattr(clip.tokenizer, "clip_umt5xxl", None)
        if tokenizer is None:
            raise CCVDError(
                "CCVD needs Wan's text encoder (UMT5). Connect Load CLIP with type 'wan', or CCVD Demo Model's CLIP."
            )
        self._clip = clip
        self._id_to_piece = tokenizer.tokenizer.tokenizer.id_to_piece
        self.conditioning: list[Any] = []

    def __call__(self, text: str) -> EncodedText:
        tokens = self._clip.tokenize(text)
        pieces = [self._id_to_piece(int(token)) for batch in tokens["umt5xxl"] for token, *_ in batch]
        end = pieces.index("</s>") if "</s>" in pieces else len(pieces)
        conditioning = self._clip.encode_from_tokens_scheduled(tokens)
        self.conditioning = self.conditioning or conditioning
        return EncodedText(conditioning[0][0][0], tuple(pieces[:end]))
