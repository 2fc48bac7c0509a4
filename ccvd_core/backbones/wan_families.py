"""The members of the Wan family by their sizes: what they make, and the presets to learn on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..concepts.kinds import PresetName
from .preset import Preset
from .video_form import VideoForm

FRAME_STEP = 4
"""The VAEs of all of them make one latent frame of the first frame, and one of each four after it."""

TRAINERS = "trainers in use for Wan 1.3B (musubi-tuner, diffusion-pipe, ai-toolkit)"
PAPER = "CIDM (arXiv 2410.17594)"
ONE = Preset(
    steps=800,
    rank=16,
    lr=1e-4,
    token_lr=1e-3,
    batch=1,
    time_mean=0.0,
    time_spread=1.0,
    time_shift=3.0,
    appearance_share=0.1,
    still_frames=1,
    source={
        "steps": f"{PAPER}; within the 500 to 2000 of {TRAINERS}",
        "rank": f"the lower end of the 16 to 32 of {TRAINERS}",
        "lr": f"{PAPER}; the lower end of the 1e-4 to 2e-4 of {TRAINERS}",
        "token_lr": PAPER,
        "batch": f"{TRAINERS}: what fits a 16 GB card",
        "time_mean": "the plain logit-normal of flow matching (arXiv 2403.03206)",
        "time_spread": "the plain logit-normal of flow matching (arXiv 2403.03206)",
        "time_shift": TRAINERS,
        "appearance_share": "chosen, not measured: enough of the ordinary loss to anchor the first frame",
        "still_frames": "least memory; not measured on a full-size model",
    },
)
"""For models of every full size: trainers take the same for pictures and for short clips."""

MEASURED = "measured on the demo base with its held-out concepts (benchmarks/learning)"
DEMO_APPEARANCE = Preset(
    steps=600,
    rank=16,
    lr=1e-3,
    token_lr=1e-2,
    batch=4,
    time_mean=0.7,
    time_spread=1.0,
    time_shift=3.0,
    appearance_share=0.1,
    still_frames=9,
    source={
        "steps": f"{MEASURED}: 600 steps at 1e-3 and 1e-2 instead of 400 at twice these rates",
        "rank": MEASURED,
        "lr": MEASURED,
        "token_lr": MEASURED,
        "batch": f"{MEASURED}; clips of 192 tokens leave room",
        "time_mean": f"{MEASURED}: the shape of things is decided on noisy clips",
        "time_spread": "the plain logit-normal of flow matching (arXiv 2403.03206)",
        "time_shift": "what the demo base was trained and is sampled with",
        "appearance_share": "takes no part: the loss of a motion alone reads it",
        "still_frames": f"{MEASURED}: single frames teach only the first latent frame, and the likeness fades after it",
    },
)
DEMO_MOTION = Preset(
    steps=200,
    rank=8,
    lr=1e-3,
    token_lr=2e-3,
    batch=4,
    time_mean=1.0,
    time_spread=1.0,
    time_shift=3.0,
    appearance_share=0.5,
    still_frames=1,
    source={
        "steps": MEASURED,
        "rank": MEASURED,
        "lr": MEASURED,
        "token_lr": MEASURED,
        "batch": f"{MEASURED}; clips of 192 tokens leave room",
        "time_mean": f"{MEASURED}: where things are is decided on noisy clips",
        "time_spread": "the plain logit-normal of flow matching (arXiv 2403.03206)",
        "time_shift": "what the demo base was trained and is sampled with",
        "appearance_share": MEASURED,
        "still_frames": "takes no part: a motion is learned from clips",
    },
)


@dataclass(frozen=True)
class WanFamily:
    """The models of this many latent channels that are at least this wide: what they make, and how to learn on them."""

    channels: int
    width: int
    video: VideoForm
    presets: Mapping[PresetName, Preset]


FULL_SIZE: Mapping[PresetName, Preset] = {"appearance": ONE, "motion": ONE}

FAMILIES = (
    # Wan 2.2 5B
    WanFamily(48, 1024, VideoForm(rate=24.0, length=33, area=500 * 500, frame_step=FRAME_STEP), FULL_SIZE),
    # Wan 2.1, and 2.2 14B
    WanFamily(0, 1024, VideoForm(rate=16.0, length=33, area=500 * 500, frame_step=FRAME_STEP), FULL_SIZE),
    # The demo base: the smallest Wan is 8 times as wide.
    WanFamily(
        0,
        0,
        VideoForm(rate=8.0, length=9, area=128 * 128, frame_step=FRAME_STEP, knows="emoji on plain backgrounds"),
        {"appearance": DEMO_APPEARANCE, "motion": DEMO_MOTION},
    ),
)
"""From the most special to the most general: the first that a model reaches is its own."""


def wan_family(channels: int, width: int) -> WanFamily:
    """The family of a model with latents of `channels` and tokens of `width`."""
    return next(family for family in FAMILIES if channels >= family.channels and width >= family.width)
