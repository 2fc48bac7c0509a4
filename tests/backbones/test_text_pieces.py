"""The one spelling of text encoders' pieces, of real tokenizers: CLIP's BPE and the demo model's SentencePiece."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from environment import ensure_environment
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ccvd_core.backbones.text_pieces import bpe_pieces, sentencepiece_pieces
from ccvd_core.prompts.mentions import Mention, mention_rows, parse_prompt
from ccvd_core.regions.scene_text import row_owners

REPOSITORY = Path(__file__).resolve().parents[2]

WORDS = ("a", "Dog", "photorealistic", "dog's", "x2", "...", "moving", "NASA-like", "é", "naïve", "wolf,")


@cache
def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(ensure_environment().comfyui / "comfy" / "sd1_tokenizer"))


@cache
def sentencepiece_tokenizer() -> Any:
    import sentencepiece

    weights = load_file(REPOSITORY / "demo" / "weights" / "ccvd_demo_text_encoder.safetensors")
    return sentencepiece.SentencePieceProcessor(model_proto=weights["spiece_model"].numpy().tobytes())


def clip(text: str) -> tuple[str, ...]:
    """With the rows that mark beginning and end, as models read it."""
    tokenizer = clip_tokenizer()
    return bpe_pieces(tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids), text)


def umt5(text: str) -> tuple[str, ...]:
    return sentencepiece_pieces(sentencepiece_tokenizer().encode(text, out_type=str))


ENCODERS = pytest.mark.parametrize("read", [clip, umt5])


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), st.sampled_from([" ", "  "]))
@example(["don't", "stop!?", "100%"], " ")
@settings(deadline=None, max_examples=40)
def test_joined_clips_pieces_are_the_text_with_its_spaces_and_large_letters(words: list[str], gap: str) -> None:
    pieces = clip(gap.join(words))
    assert "".join(pieces) == " " + " ".join(words)
    assert pieces[0] == pieces[-1] == "", "the rows that mark beginning and end"


def test_words_in_several_pieces_and_punctuation() -> None:
    spelled = ["<|startoftext|>", "a</w>", "photo", "realistic</w>", "dog</w>", "'s</w>", "!</w>", "<|endoftext|>"]
    assert bpe_pieces(spelled, "a Photorealistic dog's!") == ("", " a", " Photo", "realistic", " dog", "'s", "!", "")
    assert sentencepiece_pieces(["▁a", "▁do", "g", "▁", "."]) == (" a", " do", "g", " ", ".")


def test_a_character_in_two_pieces_is_spelled_by_the_second() -> None:
    dog_face = "ðŁĲ¶"  # the four bytes of one emoji
    assert bpe_pieces(["a</w>", dog_face[:2], f"{dog_face[2:]}</w>", "x</w>"], "a 🐶 x") == (" a", "", " 🐶", " x")


def test_where_the_encoder_reads_other_letters_every_word_begins_with_a_space() -> None:
    assert bpe_pieces(["a</w>", "fi", "sh</w>", "'s</w>", "tail</w>"], "a ﬁsh's Tail") == (
        " a",
        " fi",
        "sh",
        " 's",
        " tail",
    )


@ENCODERS
def test_class_words_are_found_in_the_rows_that_spell_them(read: Callable[[str], tuple[str, ...]]) -> None:
    prompt = parse_prompt("a <rex> and a dog, the <rex>'s tail", {"rex": "Dog"} if read is clip else {"rex": "dog"})
    pieces = read(prompt.text)
    for mention in prompt.mentions:
        assert "".join(pieces[row] for row in mention_rows(pieces, mention)).strip().lower() == "dog"
    rows = [mention_rows(pieces, mention) for mention in prompt.mentions]
    assert len({*rows}) == 2 and rows == sorted(rows)


@ENCODERS
def test_every_row_belongs_to_whom_it_spells(read: Callable[[str], tuple[str, ...]]) -> None:
    parts, owners = ["a dog runs", "and", "a cat", "on grass"], [1, 0, 2, 0]
    pieces = read(" ".join(parts))
    found = row_owners(pieces, parts, owners)
    for number, text in ((1, "a dog runs"), (2, "a cat")):
        assert "".join(piece for piece, owner in zip(pieces, found, strict=True) if owner == number).strip() == text
    marks = [owner for piece, owner in zip(pieces, found, strict=True) if not piece]
    assert marks == [0] * (2 if read is clip else 0), "what marks beginning and end is everybody's"


def test_a_mention_in_clips_pieces_counts_rows_from_the_mark_of_the_beginning() -> None:
    assert mention_rows(clip("a red dog"), Mention("rex", "dog", 0)) == (3,)
