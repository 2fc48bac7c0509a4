"""How long a lesson takes."""

from __future__ import annotations

import time

import torch

from ..backbones.base import Backbone
from ..regions.regional_prompt import predict_prompts
from .example import ReadExample
from .lesson_prompts import plain_prompt

FORWARDS_PER_STEP = 4.0
"""A training step in forward passes: forward, recomputation, and a backward pass of about two."""
ENCODER_PASSES_PER_STEP = 3.0
"""The same of the text encoder, where tokens are learned before it; nothing of it is recomputed."""


class Clock:
    """Time left, from the pace of the steps of this run."""

    def __init__(self, done: int, total: int) -> None:
        self._began, self._first, self._total = time.monotonic(), done, total

    def left(self, done: int) -> float:
        steps = max(1, done - self._first)
        return (time.monotonic() - self._began) / steps * (self._total - done)


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


@torch.no_grad()
def forward_seconds(backbone: Backbone, example: ReadExample, batch: int) -> float:
    """What one forward pass of a batch of this example takes; it is run here."""
    clean = example.latents.expand(batch, *example.latents.shape)
    level = backbone.noise_path.level(torch.full((batch,), 0.5, device=clean.device))
    plain = plain_prompt(backbone, example.context, example.shown)
    began = time.perf_counter()
    predict_prompts(backbone, clean, level, [plain] * batch).sum().item()
    return time.perf_counter() - began
