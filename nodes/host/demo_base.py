"""The embedded demo base's files as ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_sampling
import comfy.sd
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...ccvd_core.errors import CCVDError
from .backbone import small_text_encoder
from .frame_convolutions import quicken_on_cpu

WEIGHTS = Path(__file__).parents[2] / "demo" / "weights"
MODEL_FILE, TEXT_FILE, VAE_FILE = (
    WEIGHTS / f"ccvd_demo_{part}.safetensors" for part in ("model", "text_encoder", "vae")
)


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    return weights, metadata or {}


def load_clip(path: Path) -> comfy.sd.CLIP:
    """The text encoder, in ComfyUI's own classes."""
    return small_text_encoder(*read_weights(path))


def load_model(shift: float) -> ModelPatcher:
    """The video model, with this flow shift."""
    model = comfy.sd.load_diffusion_model(str(MODEL_FILE))
    model.add_object_patch("model_sampling", shifted_sampling(model, shift))
    return model


def load_vae() -> comfy.sd.VAE:
    vae = comfy.sd.VAE(sd=read_weights(VAE_FILE)[0])
    vae.throw_exception_if_invalid()
    network: Any = vae.first_stage_model
    quicken_on_cpu(network)
    return vae


def load_demo_base(shift: float) -> tuple[ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE. Raises CCVDError when the pack came without its large files."""
    missing = [path.name for path in (MODEL_FILE, TEXT_FILE, VAE_FILE) if not path.is_file()]
    if missing:
        raise CCVDError(
            f"The demo model's files are missing from the pack ({', '.join(missing)} in demo/weights). "
            "Install the pack again, with its large files."
        )
    return load_model(shift), load_clip(TEXT_FILE), load_vae()


def shifted_sampling(model: Any, shift: float) -> torch.nn.Module:
    """The model's own flow sampling with another shift, as ModelSamplingSD3 does it."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=1000)
    return sampling
