"""Stage 4: write the trained base as fp16 files that ComfyUI's stock loaders and diffusers both read.

    python demo/export.py --vae runs/vae/last.pt --base runs/base/last.pt
    python demo/export.py --out demo/weights/next        how far a training has got, for whoever goes on with it

A part without a checkpoint stays as it is committed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from base import TRANSFORMER as TRANSFORMER_CONFIG
from base import VAE_FILE, WEIGHTS, layers_of
from full_sequence_vae import STOCK_SHAPE
from safetensors.torch import save_file
from text import ENCODER_CONFIG, TEXT_ROWS, TEXT_WIDTH, vocabulary_size
from torch import Tensor
from wan_names import TRANSFORMER, VAE, original_name


def half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half().contiguous() for name, tensor in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, default=Path("runs/vae/last.pt"))
    parser.add_argument("--base", type=Path, default=Path("runs/base/last.pt"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    for write, path in ((write_vae, args.vae), (write_model, args.base)):
        if not path.exists():
            print(f"there is no {path}: the committed weights stay")
            continue
        state = torch.load(path, weights_only=True)
        write(state, args.out)
        print(f"{path}: step {state['step']}")
    for path in sorted(args.out.glob("*.safetensors")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


def write_vae(state: Mapping[str, Any], out: Path) -> None:
    """The averaged weights of a checkpoint of `train_vae.py`."""
    vae = {original_name(name, VAE): value for name, value in state["average"].items()}
    save_file(half(vae), out / VAE_FILE)
    write_config(out, "vae", "AutoencoderKLWan", STOCK_SHAPE)


def write_model(state: Mapping[str, Any], out: Path) -> None:
    """The averaged transformer and text encoder of a checkpoint of `train_base.py`, and its tokenizer."""
    parts: dict[str, dict[str, Tensor]] = {"transformer": {}, "encoder": {}}
    for name, value in state["average"].items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    transformer, encoder, tokenizer = parts["transformer"], parts["encoder"], state["tokenizer"]
    config = {"transformer": {"num_heads": TRANSFORMER_CONFIG["num_attention_heads"], "text_dim": TEXT_WIDTH}}
    save_file(
        half({original_name(name, TRANSFORMER): value for name, value in transformer.items()}),
        out / "ccvd_demo_model.safetensors",
        {"config": json.dumps(config)},
    )
    encoder.pop("encoder.embed_tokens.weight", None)  # tied to `shared`
    sizes = {key: str(ENCODER_CONFIG[key]) for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads")}
    sizes |= {"vocab_size": str(vocabulary_size(tokenizer.numpy().tobytes())), "min_length": str(TEXT_ROWS)}
    save_file({**half(encoder), "spiece_model": tokenizer}, out / "ccvd_demo_text_encoder.safetensors", sizes)
    layers = {"num_layers": layers_of(transformer)}
    write_config(out, "transformer", "WanTransformer3DModel", {**TRANSFORMER_CONFIG, **layers})


def write_config(out: Path, part: str, kind: str, settings: Mapping[str, Any]) -> None:
    """Diffusers' description of a part."""
    folder = out / "diffusers" / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": kind, **settings}, indent=2) + "\n")


if __name__ == "__main__":
    main()
