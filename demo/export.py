"""Stage 4: write the trained base as fp16 files that ComfyUI's stock loaders and diffusers both read.

python demo/export.py --vae runs/vae/last.pt --base runs/base/last.pt
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from base import TRANSFORMER as TRANSFORMER_CONFIG
from base import layers_of
from full_sequence_vae import STOCK_SHAPE
from safetensors.torch import save_file
from text import ENCODER_CONFIG, TEXT_ROWS, TEXT_WIDTH, vocabulary_size
from torch import Tensor
from wan_names import TRANSFORMER, VAE, original_name

WEIGHTS = Path(__file__).parent / "weights"


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half().contiguous() for name, tensor in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--base", type=Path, default=Path("runs/base/last.pt"))
    args = parser.parse_args()
    WEIGHTS.mkdir(exist_ok=True)
    vae = torch.load(args.vae, weights_only=True)["average"]
    save_file(half({original_name(k, VAE): v for k, v in vae.items()}), WEIGHTS / "ccvd_demo_vae.safetensors")
    base = torch.load(args.base, weights_only=True)
    average = base["average"]
    transformer = {k.removeprefix("transformer."): v for k, v in average.items() if k.startswith("transformer.")}
    config = {"transformer": {"num_heads": TRANSFORMER_CONFIG["num_attention_heads"], "text_dim": TEXT_WIDTH}}
    save_file(
        half({original_name(k, TRANSFORMER): v for k, v in transformer.items()}),
        WEIGHTS / "ccvd_demo_model.safetensors",
        {"config": json.dumps(config)},
    )
    encoder = {k.removeprefix("encoder."): v for k, v in average.items() if k.startswith("encoder.")}
    encoder.pop("encoder.embed_tokens.weight", None)  # tied to `shared`
    tokenizer = base["tokenizer"]
    sizes = {key: str(ENCODER_CONFIG[key]) for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads")}
    sizes |= {"vocab_size": str(vocabulary_size(tokenizer.numpy().tobytes())), "min_length": str(TEXT_ROWS)}
    save_file({**half(encoder), "spiece_model": tokenizer}, WEIGHTS / "ccvd_demo_text_encoder.safetensors", sizes)
    for part, settings, kind in (
        ("transformer", {**TRANSFORMER_CONFIG, "num_layers": layers_of(transformer)}, "WanTransformer3DModel"),
        ("vae", STOCK_SHAPE, "AutoencoderKLWan"),
    ):
        folder = WEIGHTS / "diffusers" / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"_class_name": kind, **settings}, indent=2) + "\n")
    for path in sorted(WEIGHTS.glob("*.safetensors")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB (step {base['step']})")


if __name__ == "__main__":
    main()
