"""Stage 3: train the video model and its text encoder together on the cached latents of the world.

    python demo/train_base.py --latents runs/latents --out runs/base

Flow matching (velocity) on pictures first, then on clips and pictures in turn. Begins from the committed weights: if
they have fewer blocks, new ones whose outputs are zero are put between theirs; new words begin as the old spelling of
them. Goes on from `--out/last.pt`.
"""

from __future__ import annotations

import argparse
import copy
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from base import NEXT, WEIGHTS, DemoBase, load_base
from diffusers import WanTransformer3DModel
from diffusers.models.transformers import transformer_wan
from muon import Muon
from text import build_encoder, encode, tokenize, train_tokenizer, vocabulary_size
from torch import Tensor, nn

from ccvd_core.number_types import fast_autocast, number_type

LAYERS = 8
NEW_LAYERS = (2, 5)
"""Blocks that the committed model lacks."""
PICTURE_STEPS, PICTURE_BATCH = 1500, 64
PICTURE_EVERY = 2
"""After the picture stage, every so many steps is a picture step: it shows who is who at a third of a clip's cost."""
CLIP_BATCH = 32
PEAK_LR = 2e-3
DROP_CAPTION = 0.1
SHIFT = 3.0
"""Half of the times follow the sampler's schedule of this shift: who stands where is settled in its first steps."""
EMA = 0.998
LOOK_AGAIN = 250
"""Steps after which a checkpoint is written and new shards are looked for."""


def dense_attention(query: Tensor, key: Tensor, value: Tensor, **_: object) -> Tensor:
    """Plain attention on [batch, tokens, heads, width]: at 192 tokens its backward beats the flash kernel on a CPU."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    return (scores.float().softmax(-1).to(value.dtype) @ value).transpose(1, 2)


def learning_rate(step: int, total: int) -> float:
    """Warm-up, constant, linear decay over the last third."""
    return PEAK_LR * min(1.0, (step + 1) / 200, max(0.01, 3 * (1 - step / total)))


def random_times(count: int) -> Tensor:
    """Noise levels in 0..1: half logit-normal around the middle, half as densely as the sampler visits them."""
    uniform = torch.rand(count // 2)
    visited = SHIFT * uniform / (1 + (SHIFT - 1) * uniform)
    return torch.cat([visited, torch.sigmoid(0.3 + 1.2 * torch.randn(count - count // 2))])


@torch.no_grad()
def deeper(old: WanTransformer3DModel, layers: int, new: tuple[int, ...]) -> WanTransformer3DModel:
    """The same function with `layers` blocks, those at the places `new` adding nothing yet; all else is `old`'s."""
    model = WanTransformer3DModel(**{**old.config, "num_layers": layers})
    places = [place for place in range(layers) if place not in new]
    if len(places) != len(old.blocks):
        raise ValueError(f"{layers} blocks, of which {len(new)} are new, do not fit {len(old.blocks)} old ones")
    moved = {}
    for name, value in old.state_dict().items():
        found = re.match(r"blocks\.(\d+)\.(.*)", name)
        moved[f"blocks.{places[int(found[1])]}.{found[2]}" if found else name] = value
    missing = model.load_state_dict(moved, strict=False).missing_keys
    assert all(name.startswith(tuple(f"blocks.{place}." for place in new)) for name in missing)
    for place in new:
        block: Any = model.blocks[place]
        for output in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
    return model


@torch.no_grad()
def respelled(base: DemoBase, tokenizer: bytes) -> nn.Module:
    """The committed text encoder with another vocabulary: a piece begins as the mean of how it was spelled before."""
    import sentencepiece

    before = sentencepiece.SentencePieceProcessor(model_proto=base.tokenizer)
    now = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    encoder = build_encoder(vocabulary_size(tokenizer))
    state = dict(base.encoder.state_dict())
    old = state["shared.weight"]
    pieces = [now.id_to_piece(number) for number in range(now.get_piece_size())]
    rows = []
    for name in pieces:
        known = before.piece_to_id(name)
        spelled = [known] if before.id_to_piece(known) == name else before.encode(name.replace("▁", " "))
        rows.append(old[spelled].mean(0) if spelled else old.mean(0))
    new = torch.tensor([before.id_to_piece(before.piece_to_id(piece)) != piece for piece in pieces]).unsqueeze(1)
    # Two words that were spelled alike must be able to part.
    table = torch.stack(rows) + 0.05 * old.std() * torch.randn(len(rows), old.shape[1]) * new
    encoder.load_state_dict({**state, "shared.weight": table, "encoder.embed_tokens.weight": table})
    return encoder


class Shards:
    """The clips or pictures that `latents.py` has written so far."""

    def __init__(self, folder: Path, tokenizer: bytes) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._known: set[Path] = set()
        self._latents: list[Tensor] = []
        self._ids: list[Tensor] = []
        self.look_again()

    def look_again(self) -> None:
        """Take in what is new."""
        for path in sorted(set(self._folder.glob("*.pt")) - self._known):
            data: Mapping = torch.load(path, weights_only=True, mmap=True)
            self._latents.append(data["latents"])
            self._ids.append(tokenize(self._tokenizer, data["captions"]))
            self._known.add(path)
        if not self._latents:
            raise SystemExit(f"there is nothing in {self._folder} yet: run demo/latents.py first")
        self._starts = torch.tensor([0] + [len(part) for part in self._ids]).cumsum(0)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents [count, 16, latent frames, 16, 16] and token ids [count, rows] of random ones."""
        rows = torch.randint(len(self), (count,))
        parts = torch.bucketize(rows, self._starts, right=True) - 1
        places = [(int(part), int(row - self._starts[part])) for part, row in zip(parts, rows, strict=True)]
        return (
            torch.stack([self._latents[part][row].float() for part, row in places]),
            torch.stack([self._ids[part][row] for part, row in places]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=Path, default=Path("runs/latents"))
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    usual = NEXT if NEXT.is_dir() else WEIGHTS
    parser.add_argument("--begin", type=Path, default=usual, help="weights to begin from (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=7000)
    args = parser.parse_args()
    # Momentum of taps without a gradient decays into denormals, which cost a CPU a hundred times a normal number.
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    shards = {kind: Shards(args.latents / kind, tokenizer) for kind in ("pictures", "clips")}
    no_caption = tokenize(tokenizer, [""])[0]
    torch.manual_seed(0)
    committed = load_base(args.begin)
    grown = len(committed.transformer.blocks) == LAYERS
    transformer = deeper(committed.transformer, LAYERS, () if grown else NEW_LAYERS)
    encoder = respelled(committed, tokenizer)
    model = nn.ModuleDict({"transformer": transformer, "encoder": encoder}).requires_grad_(True).train()
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
    sizes = ", ".join(f"{len(part)} {kind}" for kind, part in shards.items())
    print(f"computing in {number_type()}, from step {start}, {sizes}", flush=True)
    began, losses = time.time(), {kind: [] for kind in shards}
    for step in range(start, args.steps):
        torch.manual_seed(1_000_000 + step)
        pictures = step < PICTURE_STEPS or step % PICTURE_EVERY == 0
        kind, batch = ("pictures", PICTURE_BATCH) if pictures else ("clips", CLIP_BATCH)
        clean, ids = shards[kind].draw(batch)
        ids = torch.where(torch.rand(len(ids), 1) < DROP_CAPTION, no_caption, ids)
        time_ = random_times(len(clean))
        noise = torch.randn_like(clean)
        noisy = torch.lerp(clean, noise, time_.view(-1, 1, 1, 1, 1))
        with fast_autocast():
            context = encode(encoder, ids)
            velocity = predict(noisy, time_ * 1000, context, return_dict=False)[0]
        loss = (velocity.float() - (noise - clean)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps)
            optimizer.step()
            optimizer.zero_grad()
        kept = min(EMA, (step + 1) / (step + 11))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)
        losses[kind].append(loss.item())
        if (step + 1) % 25 == 0:
            means = [sum(values[-50:]) / max(1, len(values[-50:])) for values in losses.values()]
            print(
                f"{step + 1}/{args.steps} pictures {means[0]:.4f} clips {means[1]:.4f} {time.time() - began:.0f}s",
                flush=True,
            )
        if (step + 1) % LOOK_AGAIN == 0 or step + 1 == args.steps:
            saved = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "tokenizer": torch.frombuffer(bytearray(tokenizer), dtype=torch.uint8),
                "step": step + 1,
            }
            torch.save(saved, last.with_suffix(".tmp"))
            last.with_suffix(".tmp").replace(last)
            for part in shards.values():
                part.look_again()


if __name__ == "__main__":
    main()
