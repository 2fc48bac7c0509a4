"""Small random CLIP and DINOv2 folders, so that the experiment can be tried where the real ones are not.

    python benchmarks/paper/stand_ins.py runs/stand_ins

Their numbers mean nothing; every line of the experiment runs.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model


def write_stand_ins(folder: Path) -> tuple[Path, Path]:
    """The folders of a CLIP that reads letters, and of a DINOv2."""
    clip, dino = folder / "clip", folder / "dino"
    clip.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (clip / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\n")
    (clip / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(clip)
    Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=4)
    ).save_pretrained(dino)
    return clip, dino


if __name__ == "__main__":
    print(*write_stand_ins(Path(sys.argv[1])))
