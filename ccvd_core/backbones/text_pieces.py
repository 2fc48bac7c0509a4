"""How text encoders spell what they read, brought into the one spelling that `EncodedText.pieces` has."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

SENTENCEPIECE_SPACE = "▁"
BPE_WORD_END = "</w>"
BPE_MARKS = ("<|startoftext|>", "<|endoftext|>")

PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
OTHERS = tuple(byte for byte in range(256) if byte not in PRINTABLE)
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + number): byte for number, byte in enumerate(OTHERS)}
"""The letters that byte-level BPE writes for the bytes of a text in UTF-8 (Radford et al. 2019)."""


def sentencepiece_pieces(pieces: Sequence[str]) -> tuple[str, ...]:
    """Of SentencePiece (T5, UMT5), which marks where a word begins with a sign of its own."""
    return tuple(piece.replace(SENTENCEPIECE_SPACE, " ") for piece in pieces)


def bpe_pieces(pieces: Sequence[str], text: str) -> tuple[str, ...]:
    """Of CLIP's byte-level BPE, which marks where a word ends, splits punctuation off and knows small letters only.

    What was written, `text`, tells where spaces were and which letters were large: `dog</w>`, `!</w>` of `a Dog!` are
    ` Dog`, `!`. From a place on where the encoder reads other letters, each of its words begins with a space. A piece
    that is only the first bytes of a character spells nothing: the piece with its last byte does.
    """
    text, at = " ".join(text.split()), 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    spelled, begins, lost = [], True, False
    for piece in pieces:
        if piece in BPE_MARKS:
            spelled.append("")
            continue
        letters = ""
        for letter in decoder.decode(bytes(BYTES[sign] for sign in piece.removesuffix(BPE_WORD_END))):
            if begins and (lost or at == 0 or text[at : at + 1] == " "):
                letters, at = letters + " ", at + (at > 0)
            written, begins = text[at : at + 1], False
            lost = lost or written.lower() != letter
            letters, at = letters + (letter if lost else written), at + 1
        begins = begins or piece.endswith(BPE_WORD_END)
        spelled.append(letters)
    return tuple(spelled)
