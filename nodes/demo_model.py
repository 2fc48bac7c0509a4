"""CCVD Demo Model: the embedded demo base as native MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import comfy.sd
import comfy.text_encoders.wan
import comfy.utils
import torch
from comfy_api.latest import io

from ..ccvd_core.errors import CCVDError
from .host.search_words import SEARCH_WORDS

WEIGHTS = Path(__file__).parent.parent / "demo" / "weights"
MODEL_FILE, TEXT_FILE, VAE_FILE = (
    WEIGHTS / f"ccvd_demo_{part}.safetensors" for part in ("model", "text_encoder", "vae")
)
SHIFT = 3.0


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    return weights, metadata or {}


def load_clip(path: Path) -> comfy.sd.CLIP:
    """ComfyUI's own UMT5 classes at the size that the file's metadata states."""
    weights, metadata = read_weights(path)
    tokenizer = {"spiece_model": weights.pop("spiece_model"), "umt5xxl_min_length": int(metadata["min_length"])}
    config = {key: int(metadata[key]) for key in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size")}

    class Target:
        params: ClassVar[dict[str, object]] = {}
        clip = comfy.text_encoders.wan.te(dtype_t5=torch.float32)
        tokenizer = comfy.text_encoders.wan.WanT5Tokenizer

    return comfy.sd.CLIP(
        Target,
        tokenizer_data=tokenizer,
        parameters=sum(weight.numel() for weight in weights.values()),
        state_dict=[weights],
        model_options={"umt5xxl_model_config": config},
    )


class DemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CCVD_DemoModel",
            display_name="CCVD Demo Model",
            category="CCVD",
            search_aliases=SEARCH_WORDS["CCVD_DemoModel"],
            description=(
                "A tiny text-to-video model in Wan 2.1's layout that comes with the pack: emoji that move over plain "
                "backgrounds, 128 x 128, 9 frames. Try the whole method on it in minutes, without a download or a GPU."
            ),
            inputs=[
                io.Float.Input(
                    "shift",
                    default=SHIFT,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Flow shift: higher spends more steps on the layout and motion, lower on detail.",
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, shift: float) -> io.NodeOutput:
        missing = [path.name for path in (MODEL_FILE, TEXT_FILE, VAE_FILE) if not path.is_file()]
        if missing:
            raise CCVDError(
                f"The demo model's files are missing from the pack ({', '.join(missing)} in demo/weights). "
                "Install the pack again, with its large files."
            )
        model = comfy.sd.load_diffusion_model(str(MODEL_FILE))
        model.add_object_patch("model_sampling", shifted_sampling(model, shift))
        vae = comfy.sd.VAE(sd=read_weights(VAE_FILE)[0])
        vae.throw_exception_if_invalid()
        return io.NodeOutput(model, load_clip(TEXT_FILE), vae)


def shifted_sampling(model: object, shift: float) -> torch.nn.Module:
    """The model's own flow sampling with another shift, as ModelSamplingSD3 does it."""
    import comfy.model_sampling

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(model.model.model_config)  # type: ignore[attr-defined]
    sampling.set_parameters(shift=shift, multiplier=1000)
    return sampling
