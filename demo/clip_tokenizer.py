"""A CLIP tokenizer of a few words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

MARKS = (49406, 49407)
"""CLIP's numbers of the start and the end of a text, which ComfyUI expects."""


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """CLIP's byte-level BPE with the merges of a few words; the marks have their usual numbers."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
    pieces, merges = letters + [f"{letter}</w>" for letter in letters], []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            pieces.append(parts[0])
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    vocabulary |= {"<|startoftext|>": MARKS[0], "<|endoftext|>": MARKS[1]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
