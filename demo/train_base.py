"""Stage 3: train the video model and its text encoder together on cached latents.

    python demo/train_base.py --latents runs/latents.pt --out runs/base

Flow matching (velocity) on pictures first, then on clips with some pictures. Goes on from `--out/last.pt`.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers import transformer_wan
from muon import Muon
from number_types import fast_autocast, number_type
from text import TEXT_WIDTH, build_encoder, encode, tokenize, train_tokenizer, vocabulary_size
from torch import Tensor, nn

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 3,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 256,
    "ffn_dim": 768,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}
PICTURE_STEPS, PICTURE_BATCH = 800, 64
PICTURE_EVERY = 6
"""After the picture stage, every so many steps is a picture step."""
CLIP_BATCH = 32
PEAK_LR = 2.5e-3
DROP_CAPTION = 0.1
SHIFT = 3.0
"""Half of the times follow the sampler's schedule of this shift: who stands where is settled in its first steps."""
EMA = 0.998


def dense_attention(query: Tensor, key: Tensor, value: Tensor, **_: object) -> Tensor:
    """Plain attention on [batch, tokens, heads, width]: at 192 tokens its backward beats the flash kernel on a CPU."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return (scores.float().softmax(-1).to(value.dtype) @ value).transpose(1, 2)


def learning_rate(step: int, total: int) -> float:
    """Warm-up, constant, linear decay over the last third."""
    return PEAK_LR * min(1.0, (step + 1) / 100, max(0.01, 3 * (1 - step / total)))


def random_times(count: int) -> Tensor:
    """Noise levels in 0..1: half logit-normal around the middle, half as densely as the sampler visits them."""
    uniform = torch.rand(count // 2)
    visited = SHIFT * uniform / (1 + (SHIFT - 1) * uniform)
    return torch.cat([visited, torch.sigmoid(0.3 + 1.2 * torch.randn(count - count // 2))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=Path, default=Path("runs/latents.pt"))
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--steps", type=int, default=18000)
    args = parser.parse_args()
    # Momentum of taps without a gradient decays into denormals, which cost a CPU a hundred times a normal number.
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    data = torch.load(args.latents, weights_only=True)
    latents, captions = data["latents"], data["captions"]
    tokenizer = train_tokenizer()
    ids = tokenize(tokenizer, [*captions, ""])
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(**TRANSFORMER)
    nn.init.zeros_(transformer.proj_out.weight)
    encoder = build_encoder(vocabulary_size(tokenizer))
    model = nn.ModuleDict({"transformer": transformer, "encoder": encoder})
    average = copy.deepcopy(model).requires_grad_(False)
    embeddings = {id(encoder.get_parameter("shared.weight"))}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and min(p.shape) > 8 and id(p) not in embeddings]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [Muon(matrices, lr=PEAK_LR), torch.optim.Adam(rest, lr=PEAK_LR, betas=(0.9, 0.98))]
    start, last = 0, args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    transformer_wan.dispatch_attention_fn = dense_attention
    predict = torch.compile(transformer, dynamic=False)
    print(f"computing in {number_type()}", flush=True)
    began, losses = time.time(), {True: [], False: []}
    for step in range(start, args.steps):
        torch.manual_seed(1_000_000 + step)
        pictures = step < PICTURE_STEPS or step % PICTURE_EVERY == 0
        chosen_rows = torch.randint(len(captions), (PICTURE_BATCH if pictures else CLIP_BATCH,))
        clean = latents[chosen_rows].float()
        if pictures:  # the first latent frame of a clip is a picture: the encoder is causal
            clean = clean[:, :, :1]
        rows = torch.where(torch.rand(len(chosen_rows)) < DROP_CAPTION, len(captions), chosen_rows)
        time_ = random_times(len(clean))
        noise = torch.randn_like(clean)
        mixing = time_.view(-1, 1, 1, 1, 1)
        noisy = torch.lerp(clean, noise, mixing)
        with fast_autocast():
            context = encode(encoder, ids[rows])
            velocity = predict(noisy, time_ * 1000, context, return_dict=False)[0]
        loss = (velocity.float() - (noise - clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - min(EMA, step / (step + 10)))
        losses[pictures].append(loss.item())
        if (step + 1) % 50 == 0:
            means = [sum(values[-50:]) / max(1, len(values[-50:])) for values in losses.values()]
            print(
                f"{step + 1}/{args.steps} pictures {means[0]:.4f} clips {means[1]:.4f} {time.time() - began:.0f}s",
                flush=True,
            )
        if (step + 1) % 250 == 0 or step + 1 == args.steps:
            saved = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "tokenizer": torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8),
                "step": step + 1,
            }
            torch.save(saved, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)


if __name__ == "__main__":
    main()
