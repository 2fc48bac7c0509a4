"""The demo base's text side: a SentencePiece vocabulary of the world's words and a two-layer UMT5 encoder.

Exactly what ComfyUI's UMT5 classes compute (no start token, EOS 1, padding 0, rows of padding zeroed), so that both
sides give the same context.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from world.backgrounds import BACKGROUNDS
from world.motions import MOTIONS, SPEEDS
from world.styles import HELD_OUT_STYLES, STYLES
from world.subjects import CLASSES, COLOURS

TEXT_WIDTH = 192
TEXT_ROWS = 32
"""Context rows: captions are padded to this length, as Wan pads to 512."""
ENCODER_CONFIG = {
    "d_model": TEXT_WIDTH,
    "d_kv": 64,
    "num_heads": 3,
    "d_ff": 512,
    "num_layers": 2,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}


FURTHER_WORDS = (
    *("person", "woman", "man", "toy", "bag", "dance", "dancing", "tai", "chi", "jumping", "walking"),
    *("fruit", "animal", "vehicle", "thing", "clothes", "swinging", "turning"),
)
"""Words of no scene, so that what an artist calls a concept's class need not be spelled in letters."""


def world_words() -> list[str]:
    """Every word of the world's captions, and a few more."""
    said = [*CLASSES, *COLOURS, "small", "large", *MOTIONS, *SPEEDS, *BACKGROUNDS, *STYLES, *HELD_OUT_STYLES]
    return sorted({*" ".join(said).split(), "a", "and", "on", "in", "style", *FURTHER_WORDS})


def train_tokenizer() -> bytes:
    """A SentencePiece model in which every word of the world is one piece and any other text falls back to letters."""
    import sentencepiece

    words = world_words()
    alphabet = [" ".join("abcdefghijklmnopqrstuvwxyz0123456789,.-'")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words)] * 200 + words * 200 + alphabet * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=640,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


def tokenize(model: bytes, captions: Sequence[str]) -> Tensor:
    """Token ids [captions, TEXT_ROWS]: the pieces, EOS, padding."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model, add_eos=True)
    rows = [list(processor.encode(caption))[:TEXT_ROWS] for caption in captions]
    return torch.tensor([row + [0] * (TEXT_ROWS - len(row)) for row in rows])


def vocabulary_size(tokenizer: bytes) -> int:
    """Pieces of a SentencePiece model."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()


def build_encoder(vocabulary: int) -> nn.Module:
    from transformers import UMT5Config, UMT5EncoderModel

    return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary, **ENCODER_CONFIG))


def encode(encoder: nn.Module, ids: Tensor) -> Tensor:
    """Context rows [captions, TEXT_ROWS, TEXT_WIDTH]; rows of padding are zero."""
    mask = ids.ne(0)
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
