"""What 3D UNets of ModelScope's family make, and the presets to learn on them."""

from __future__ import annotations

from collections.abc import Mapping

from ..concepts.kinds import PresetName
from .preset import Preset
from .video_form import VideoForm

VIDEO = VideoForm(rate=8.0, length=16, area=256 * 256, frame_step=1)
"""ModelScope text-to-video's own (arXiv 2308.06571); its VAE makes one latent frame of each frame."""

LORA = "what LoRA trainers for Stable Diffusion take, whose text cross-attentions these are (diffusers, kohya-ss)"
DIRECTOR = "MotionDirector's LoRA on this UNet (arXiv 2310.08465)"
UNIFORM = "about uniform, as diffusion models are trained (arXiv 2006.11239)"
ANCHOR = "chosen, not measured: enough of the ordinary loss to anchor the first frame"
APPEARANCE = Preset(
    steps=800,
    rank=16,
    lr=1e-4,
    token_lr=1e-3,
    batch=1,
    time_mean=0.0,
    time_spread=1.7,
    time_shift=1.0,
    appearance_share=0.1,
    still_frames=1,
    source={
        "steps": f"CIDM (arXiv 2410.17594); within the 500 to 1500 of {LORA}",
        "rank": LORA,
        "lr": LORA,
        "token_lr": "CIDM (arXiv 2410.17594)",
        "batch": "what fits an 8 GB card",
        "time_mean": UNIFORM,
        "time_spread": UNIFORM,
        "time_shift": UNIFORM,
        "appearance_share": "takes no part: the loss of a motion alone reads it",
        "still_frames": "least memory: the text is read frame by frame",
    },
)
MOTION = Preset(
    steps=300,
    rank=32,
    lr=5e-4,
    token_lr=1e-3,
    batch=1,
    time_mean=0.0,
    time_spread=1.7,
    time_shift=1.0,
    appearance_share=0.1,
    still_frames=1,
    source={
        "steps": DIRECTOR,
        "rank": DIRECTOR,
        "lr": DIRECTOR,
        "token_lr": "CIDM (arXiv 2410.17594)",
        "batch": DIRECTOR,
        "time_mean": UNIFORM,
        "time_spread": UNIFORM,
        "time_shift": UNIFORM,
        "appearance_share": ANCHOR,
        "still_frames": "takes no part: a motion is learned from clips",
    },
)
PRESETS: Mapping[PresetName, Preset] = {"appearance": APPEARANCE, "motion": MOTION}
