"""The learned judge of the continual benchmark: a small CLIP-like encoder of clips and captions of the demo world.

It is trained by `train_encoder.py` on clips of all subjects, motions, backgrounds and styles, those included that the
demo base has never seen, because it only judges: no method sees it, and it shares no weights with the base. Captions
have one object. On 400 clips whose captions its training left out, it tells the right subject from 53 others in 0.51 of
the cases, motion, background and style in 0.90, 0.92 and 0.93, a subject from the one that looks like it in 0.97; after
the base's VAE in about the same (`encoder_accuracy.csv`). It had 1500 steps on 8000 clips; more of both are better.

A clip's embedding is the sum of what its frames show (a CNN over single frames, averaged over time) and how things move
(the paths of soft attention peaks through the clip); a caption's is the sum of its words. All embeddings have norm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from world.backgrounds import BACKGROUNDS
from world.motions import HELD_OUT_MOTIONS, MOTIONS, SPEEDS
from world.scenes import FRAMES
from world.styles import HELD_OUT_STYLES, STYLES
from world.subjects import CLASSES, COLOURS, HELD_OUT

WEIGHTS = Path(__file__).parent / "encoder.safetensors"
WIDTH = 128
"""Length of an embedding."""
SIDE = 64
"""Pixels to which frames are scaled down."""
SUBJECTS = (*CLASSES, *HELD_OUT)
NAMES = (*SUBJECTS, *MOTIONS, *HELD_OUT_MOTIONS, *STYLES, *HELD_OUT_STYLES, *BACKGROUNDS)
WORDS = tuple(sorted({"a", "on", "in", "style", "small", "large", *COLOURS, *" ".join((*NAMES, *SPEEDS)).split()}))
"""All that captions with one object are made of."""
PATHS = 8
"""Attention peaks that are followed through a clip."""


class ContrastiveEncoder(nn.Module):
    """Frames, clips and captions -> unit vectors [n, WIDTH] of one space."""

    name = "contrastive"

    def __init__(self) -> None:
        super().__init__()
        self.frame_tower = nn.Sequential(
            *convolution(3, 24, 2),
            *convolution(24, 48, 2),
            *convolution(48, 64, 1),
            *convolution(64, 128, 2),
            *convolution(128, 128, 1),
        )
        self.frame_head = nn.Linear(2 * 128, WIDTH)
        self.attention = nn.Sequential(
            nn.Conv2d(6, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, PATHS, 1)
        )
        self.motion_head = nn.Sequential(nn.Linear(FRAMES * PATHS * 2, 128), nn.ReLU(), nn.Linear(128, WIDTH))
        self.words = nn.EmbeddingBag(len(WORDS) + 1, WIDTH, mode="sum", padding_idx=0)

    @torch.no_grad()
    def embed_frames(self, clips: Tensor) -> Tensor:
        """[n, frames, WIDTH]: what every frame shows, of clips [n, frames, height, width, 3] in 0..1."""
        frames = shrink(clips)
        return unit(self.appearance(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def embed_clips(self, clips: Tensor) -> Tensor:
        """[n, WIDTH]: what clips [n, FRAMES, height, width, 3] in 0..1 show and how it moves."""
        frames = shrink(clips)
        appearance = self.appearance(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return unit(appearance.mean(1) + self.motion(frames))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[n, WIDTH] of captions that use the world's words alone; their order does not count."""
        return self.captions(word_ids(texts))

    def appearance(self, frames: Tensor) -> Tensor:
        """[n, WIDTH], not normalised, of frames [n, 3, SIDE, SIDE]: mean and maximum over places, as one vector."""
        cells = self.frame_tower(frames).flatten(2)
        return self.frame_head(torch.cat([cells.mean(2), cells.amax(2)], 1))

    def motion(self, frames: Tensor) -> Tensor:
        """[n, WIDTH], not normalised, of clips [n, FRAMES, 3, SIDE, SIDE]; where a clip takes place does not count."""
        if frames.shape[1] != FRAMES:
            raise ValueError(f"expected clips of {FRAMES} frames, got {frames.shape[1]}")
        small = functional.avg_pool2d(frames.flatten(0, 1), 2).unflatten(0, frames.shape[:2])
        seen = torch.cat([small, small - small.mean(1, keepdim=True)], 2).flatten(0, 1)
        heat = self.attention(seen).float()
        line = torch.linspace(-1, 1, heat.shape[-1])
        heat = heat.flatten(2).softmax(2).unflatten(2, heat.shape[2:])
        peaks = torch.stack([heat.sum(2) @ line, heat.sum(3) @ line], -1)  # [n * FRAMES, PATHS, 2]
        path = peaks.flatten(1).unflatten(0, frames.shape[:2])
        return self.motion_head((path - path.mean(1, keepdim=True)).flatten(1))

    def captions(self, ids: Tensor) -> Tensor:
        """Unit vectors [..., WIDTH] of word numbers [..., words]; 0 is padding."""
        return unit(self.words(ids.flatten(0, -2))).unflatten(0, ids.shape[:-1])


def convolution(channels: int, out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.float(), dim=-1)


def shrink(clips: Tensor) -> Tensor:
    """Clips [n, frames, height, width, 3] in 0..1 -> [n, frames, 3, SIDE, SIDE] in -1..1, by the mean over areas."""
    check_clips(clips)
    pictures = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
    return functional.adaptive_avg_pool2d(pictures, SIDE).unflatten(0, clips.shape[:2]) * 2 - 1


def check_clips(clips: Tensor) -> None:
    """Refuse what is not float [n, frames, height, width, 3] with at least one clip and one frame."""
    if clips.ndim != 5 or clips.shape[-1] != 3 or not clips.is_floating_point() or not clips.numel():
        raise ValueError(
            "expected float clips of shape [n, frames, height, width, 3] in 0..1, "
            f"got {clips.dtype} {tuple(clips.shape)}"
        )


def word_ids(texts: Sequence[str]) -> Tensor:
    """Word numbers [n, words], counted from 1 and padded with 0."""
    rows = [text.split() for text in texts]
    unknown = sorted({word for row in rows for word in row} - set(WORDS))
    if unknown:
        raise ValueError(f"the encoder was not trained on {', '.join(unknown)}; it reads {', '.join(WORDS)}")
    longest = max(map(len, rows))
    number = {word: index for index, word in enumerate(WORDS, 1)}
    return torch.tensor([[number[word] for word in row] + [0] * (longest - len(row)) for row in rows])


def load_encoder(path: Path = WEIGHTS) -> ContrastiveEncoder:
    """The trained encoder, in fp32 on the CPU, frozen."""
    encoder = ContrastiveEncoder()
    encoder.load_state_dict(load_file(path))
    return encoder.float().eval().requires_grad_(False)


def save_encoder(encoder: ContrastiveEncoder, path: Path = WEIGHTS) -> None:
    """The weights as fp16."""
    save_file({name: t.half() if t.is_floating_point() else t for name, t in encoder.state_dict().items()}, path)
