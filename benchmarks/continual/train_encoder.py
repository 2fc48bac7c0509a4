"""Train the learned judge of the continual benchmark, and say how good it is.

    python benchmarks/continual/train_encoder.py             9 minutes of two cores, then the report
    python benchmarks/continual/train_encoder.py --report    only the report: encoder_accuracy.csv

Symmetric InfoNCE between clips and captions of a batch, where equal captions are not each other's negatives. Scenes of
a batch differ in nearly everything, so the right caption is also told from those that differ from it in one attribute
only (all other subjects, motions, backgrounds, styles). The same for single frames and captions without their motion.
Clips are blurred, noised and dimmed, because clips from the VAE are soft.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "demo"), str(ROOT / "benchmarks" / "learning"), str(Path(__file__).parent)]

from encoder import (  # noqa: E402
    SUBJECTS,
    WEIGHTS,
    ContrastiveEncoder,
    load_encoder,
    save_encoder,
    unit,
    word_ids,
)
from encoder_data import (  # noqa: E402
    VALUES,
    Pool,
    attribute,
    caption_with,
    kinds,
    render,
    same,
    scenes,
    still_caption,
)
from world.scenes import FRAMES, Scene  # noqa: E402

from ccvd_core.number_types import fast_autocast, number_type  # noqa: E402

TRAINING_SEED, REPORT_SEED = 41_000, 43_000
"""Neither is a seed of the tables, of tuning or of the base's training."""
POOL, BATCH, STEPS, RATE = 8000, 96, 1500, 2e-3
MOVING = 32
"""Clips of a batch whose motion is looked at: it is learned sooner than who is who, and costs more."""
FRAMES_SEEN = 2
"""Frames of a clip whose appearance a training step looks at; the motion is read from all."""
REPORTED = 400
LOOK_ALIKES = (("basketball", "orange"), ("wolf", "raccoon"), ("tiger", "leopard"), ("taxi", "police"))


@dataclass(frozen=True)
class Captions:
    """Captions as unit vectors: `own` [n, d], `changed` in one attribute to each of its k values [n, k, d], of which
    the one numbered `labels` [n] is the own one.
    """

    own: Tensor
    changed: dict[str, Tensor]
    labels: dict[str, Tensor]


def caption_ids(chosen: Sequence[Scene], moving: bool) -> Tensor:
    """Word numbers [n, 1 + values, words] of every scene's caption and of all that differ from it in one attribute."""
    write = Scene.caption if moving else still_caption
    texts = []
    for scene in chosen:
        texts.append(write(scene))
        texts += [write(caption_with(scene, kind, value)) for kind in kinds(moving) for value in VALUES[kind]]
    return word_ids(texts).unflatten(0, (len(chosen), -1))


def read_captions(encoder: ContrastiveEncoder, chosen: Sequence[Scene], ids: Tensor, moving: bool = True) -> Captions:
    """The captions of scenes, whose `caption_ids` are given."""
    own, *rest = encoder.captions(ids).split([1, *(len(VALUES[kind]) for kind in kinds(moving))], dim=1)
    labels = {
        kind: torch.tensor([VALUES[kind].index(attribute(scene, kind)) for scene in chosen]) for kind in kinds(moving)
    }
    return Captions(own[:, 0], dict(zip(labels, rest, strict=True)), labels)


def loss_of(pictures: Tensor, captions: Captions, equal: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE both ways, without pairs of `equal` scenes [n, n], and the choice of each attribute."""
    logits = (scale * pictures @ captions.own.T).masked_fill(equal, -torch.inf)
    target = torch.arange(len(pictures))
    loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    for kind, label in captions.labels.items():
        choice = scale * torch.einsum("nd,nkd->nk", pictures, captions.changed[kind])
        loss = loss + functional.cross_entropy(choice, label)
    return loss


def train(steps: int = STEPS, pool: int = POOL) -> ContrastiveEncoder:
    """Train from nothing; the same on every machine up to rounding."""
    torch.manual_seed(TRAINING_SEED)
    draw = torch.Generator().manual_seed(TRAINING_SEED)
    began, known = time.monotonic(), scenes(TRAINING_SEED, pool, for_report=False)
    clips = Pool(known, draw)
    ids = {moving: caption_ids(known, moving) for moving in (True, False)}
    print(f"computing in {number_type()}", flush=True)
    print(f"{pool} clips drawn {time.monotonic() - began:.0f}s", flush=True)
    encoder = ContrastiveEncoder().train()
    nn.init.normal_(encoder.words.weight, std=0.1)
    log_scale = nn.Parameter(torch.tensor(10.0).log())
    groups = [{"params": encoder.parameters(), "weight_decay": 0.02}, {"params": [log_scale], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    keys = {moving: torch.tensor([same(scene, moving) for scene in known]) for moving in (True, False)}
    for step in range(steps):
        index = torch.randint(pool, (BATCH,), generator=draw)
        chosen = [known[i] for i in index.tolist()]
        moving_clips = clips.soften(index[:MOVING])
        some = torch.randperm(FRAMES, generator=draw)[:FRAMES_SEEN]
        shown = torch.cat([moving_clips[:, some], clips.soften(index[MOVING:], some)]).flatten(0, 1)
        with fast_autocast():
            appearance = encoder.appearance(shown.contiguous(memory_format=torch.channels_last))
            motion = encoder.motion(moving_clips)
        appearance = appearance.float().unflatten(0, (BATCH, FRAMES_SEEN))
        scale = log_scale.exp().clamp(max=60)
        loss = torch.zeros(())
        for moving, pictures in ((True, appearance[:MOVING].mean(1) + motion), (False, appearance[:, 0])):
            rows = index[: len(pictures)]
            key = keys[moving][rows]
            equal = (key[:, None] == key) & ~torch.eye(len(rows), dtype=torch.bool)
            captions = read_captions(encoder, chosen[: len(rows)], ids[moving][rows], moving)
            loss = loss + loss_of(unit(pictures), captions, equal, scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"{step} loss {loss.item():.3f} scale {scale.item():.1f} {time.monotonic() - began:.0f}s", flush=True)
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(encoder: ContrastiveEncoder, clips: Tensor, chosen: Sequence[Scene]) -> dict[str, float]:
    """Share of clips whose own caption is the nearest of all that differ from it in one attribute.

    `look_alikes`: of the clips that show one of a pair, those nearer to their own caption than to the other's.
    """
    pictures = torch.cat([encoder.embed_clips(part) for part in clips.split(32)])
    captions = read_captions(encoder, chosen, caption_ids(chosen, moving=True))
    near = {part: torch.einsum("nd,nkd->nk", pictures, changed) for part, changed in captions.changed.items()}
    shares = {part: float((near[part].argmax(1) == label).float().mean()) for part, label in captions.labels.items()}
    right = [
        bool(near["subject"][row, SUBJECTS.index(one)] > near["subject"][row, SUBJECTS.index(other)])
        for pair in LOOK_ALIKES
        for one, other in (pair, pair[::-1])
        for row, scene in enumerate(chosen)
        if attribute(scene, "subject") == one
    ]
    return {**shares, "look_alikes": float(np.mean(right))}


def report(encoder: ContrastiveEncoder, path: Path, count: int = REPORTED) -> None:
    """Accuracy on captions that training left out: real clips, and the same after the demo base's VAE."""
    from base import load_base

    chosen, base = scenes(REPORT_SEED, count, for_report=True), load_base()
    real = render(chosen)
    channels_first = real.permute(0, 4, 1, 2, 3) * 2 - 1
    with fast_autocast():
        soft = torch.cat([base.to_clips(base.to_latents(part).float()) for part in channels_first.split(8)])
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clips", "attribute", "accuracy", "number_type"])
        for name, clips, made_in in (("real", real, ""), ("through_vae", soft, number_type())):
            for kind, share in accuracy(encoder, clips, chosen).items():
                writer.writerow([name, kind, f"{share:.4f}", made_in])
                print(f"{name:12} {kind:12} {share:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only the report, on the weights that are there")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if not args.report:
        save_encoder(train())
    report(load_encoder(WEIGHTS), Path(__file__).parent / "encoder_accuracy.csv")


if __name__ == "__main__":
    main()
