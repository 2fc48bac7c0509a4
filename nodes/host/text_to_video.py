"""A text-to-video folder of diffusers as ComfyUI's own objects: MODEL, CLIP and VAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as memory
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ...ccvd_core.backbones.comfy_unet3d import HostedUNet3D
from ...ccvd_core.backbones.diffusers_folder import TextToVideoFolder, not_one, read_folder
from ...ccvd_core.backbones.noise_path import VelocityPath
from ...ccvd_core.backbones.unet3d import unet_path

PLACE = "diffusers"
"""The kind of ComfyUI's model folders in which these lie."""
DEMO = "demo (64 x 64, comes with the pack)"
DEMO_FOLDER = Path(__file__).parents[2] / "demo" / "weights" / "text_to_video"
MEMORY_FACTOR = 1.5
"""Values alive at once per latent while sampling, in ComfyUI's unit of about 10,000: a gated feed-forward of 8 x 512
channels, what surrounds it, and the skips that wait for the way up."""
LAYERS = ("Linear", "Conv1d", "Conv2d", "Conv3d", "GroupNorm", "LayerNorm")
"""PyTorch's layers that ComfyUI has in a form whose weights it can lend."""


class VideoLatents(comfy.latent_formats.SD15):
    latent_dimensions = 3


class TextToVideoConfig(comfy.supported_models_base.BASE):
    unet_config: ClassVar[dict[str, Any]] = {}
    unet_extra_config: ClassVar[dict[str, Any]] = {"disable_unet_model_creation": True}
    supported_inference_dtypes: ClassVar[list[torch.dtype]] = [torch.float16, torch.bfloat16, torch.float32]
    memory_usage_factor = MEMORY_FACTOR


class TextToVideo(comfy.model_base.BaseModel):
    """ComfyUI's model around the network of a folder."""

    def __init__(self, config: TextToVideoConfig, network: HostedUNet3D) -> None:
        path = unet_path(network.scheduler)
        velocity = isinstance(path, VelocityPath)
        kind = comfy.model_base.ModelType.V_PREDICTION if velocity else comfy.model_base.ModelType.EPS
        super().__init__(config, kind)
        self.diffusion_model = network
        self.model_sampling.set_sigmas(torch.tensor(path.sigmas, dtype=torch.float64))
        self.model_sampling.num_timesteps = len(path.sigmas)
        memory.archive_model_dtypes(network)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        out = super().extra_conds(**kwargs)
        context = kwargs.get("cross_attn")
        if context is not None:
            out["c_crossattn"] = comfy.conds.CONDCrossAttn(context)
        return out


def load_model(folder: TextToVideoFolder) -> comfy.model_patcher.ModelPatcher:
    """MODEL: the network in the number type that suits the device."""
    weights: Any = comfy.utils.load_torch_file(str(folder.unet.weights), safe_load=True)
    device, parameters = memory.get_torch_device(), comfy.utils.calculate_parameters(weights)
    supported = TextToVideoConfig.supported_inference_dtypes
    dtype = memory.unet_dtype(
        model_params=parameters, supported_dtypes=supported, weight_dtype=comfy.utils.weight_dtype(weights)
    )
    dtype = memory.unet_manual_cast(dtype, device, supported) or dtype
    config = TextToVideoConfig({})
    config.latent_format = VideoLatents(float(folder.vae.config.get("scaling_factor", 0.18215)))
    config.set_inference_dtype(dtype, None)
    model = TextToVideo(config, HostedUNet3D(network(folder, weights, dtype), folder.scheduler))
    patcher = comfy.model_patcher.ModelPatcher(model, device, memory.unet_offload_device())
    patcher.cached_patcher_init = (load_model, (folder,))
    return patcher


def network(folder: TextToVideoFolder, weights: dict[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Diffusers' own module with a file's weights, its layers in the form that ComfyUI can move and patch."""
    from diffusers import UNet3DConditionModel

    with torch.device("meta"):
        # Typed as what can also return its unused arguments, which it was not asked for.
        module: Any = UNet3DConditionModel.from_config(dict(folder.unet.config))
    try:
        # Assigned: copying would need every weight twice for a moment, and a place for the first.
        module.load_state_dict({name: weight.to(dtype) for name, weight in weights.items()}, assign=True)
    except RuntimeError as error:
        raise not_one(folder.path, f"its weights do not fit its configuration ({str(error)[:300]})") from None
    for part in module.modules():
        name = type(part).__name__
        if name in LAYERS and type(part) is getattr(nn, name):
            part.__class__ = getattr(comfy.ops.disable_weight_init, name)
    return module.eval().requires_grad_(False)


def load_clip(folder: TextToVideoFolder) -> comfy.sd.CLIP:
    """CLIP: ComfyUI's text model at the sizes of the folder's, with its last layer and the folder's tokenizer."""
    weights: Any = comfy.utils.load_torch_file(str(folder.text.weights), safe_load=True)
    config, width = dict(folder.text.config), int(folder.text.config["hidden_size"])
    weights = {name if name.startswith("text_model.") else f"text_model.{name}": w for name, w in weights.items()}
    weights.pop("text_model.embeddings.position_ids", None)
    # Where ComfyUI's class has a projection, these have none.
    weights["text_projection.weight"] = torch.eye(width)
    length = int(config.get("max_position_embeddings", 77))

    class Tokenizer(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(
                str(folder.tokenizer),
                max_length=length,
                pad_with_end=False,
                embedding_directory=embedding_directory,
                embedding_size=width,
                embedding_key="clip_h",
            )
            pad = self.tokenizer.pad_token_id
            self.pad_token = self.pad_token if pad is None else pad

    class Tokenizers(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            super().__init__(embedding_directory, tokenizer_data or {}, clip_name="h", tokenizer=Tokenizer)

    marks = Tokenizer()

    class TextModel(comfy.sd1_clip.SDClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
            super().__init__(
                device=device,
                max_length=length,
                dtype=dtype,
                layer="last",
                textmodel_json_config=config,
                special_tokens={"start": marks.start_token, "end": marks.end_token, "pad": marks.pad_token},
                return_projected_pooled=True,
                model_options=model_options or {},
            )

    text_model: Any = TextModel  # ComfyUI's own SD1 model is only the default, as its other loaders show

    class TextModels(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
            super().__init__(
                device=device, dtype=dtype, model_options=model_options or {}, clip_name="h", clip_model=text_model
            )

    return comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(Tokenizers, TextModels),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=comfy.utils.calculate_parameters(weights),
        state_dict=[weights],
    )


class FrameByFrame(nn.Module):
    """A picture VAE over the frames of clips, one frame at a time: [batch, channels, frames, height, width]."""

    def __init__(self, pictures: nn.Module) -> None:
        super().__init__()
        self.pictures: Any = pictures

    def encode(self, clips: Tensor) -> Tensor:
        return torch.stack([self.pictures.encode(frame) for frame in clips.unbind(2)], 2)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.stack([self.pictures.decode(frame) for frame in latents.unbind(2)], 2)


def load_vae(folder: TextToVideoFolder) -> comfy.sd.VAE:
    """VAE: ComfyUI's for pictures, over frames, so that the stock nodes encode and decode clips."""
    weights = comfy.utils.load_torch_file(str(folder.vae.weights), safe_load=True)
    config = folder.vae.config
    widths = config["block_out_channels"]
    channels = int(config.get("latent_channels", 4))
    sizes = {
        "double_z": True,
        "z_channels": channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": int(config.get("layers_per_block", 2)),
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    vae: Any = comfy.sd.VAE(sd=weights, config={"params": {"ddconfig": sizes, "embed_dim": channels}})
    vae.throw_exception_if_invalid()
    encode, decode = vae.memory_used_encode, vae.memory_used_decode
    # One frame's, and all frames' pixels in and out.
    vae.memory_used_encode = lambda shape, dtype: encode(picture(shape), dtype) + 4 * shape.numel()
    vae.memory_used_decode = lambda shape, dtype: decode(picture(shape), dtype) + 4 * shape.numel() * 48
    vae.latent_channels, vae.latent_dim = channels, 3
    vae.downscale_ratio = vae.upscale_ratio = (lambda frames: frames, 8, 8)
    vae.downscale_index_formula = vae.upscale_index_formula = (1, 8, 8)
    vae.first_stage_model = FrameByFrame(vae.first_stage_model)
    old = vae.patcher
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, old.load_device, old.offload_device)
    return vae


def picture(shape: torch.Size) -> tuple[int, int, int, int]:
    """The shape of one frame of clips."""
    return (1, shape[1], shape[-2], shape[-1])


def folder_names() -> list[str]:
    """Every folder of models/diffusers that diffusers has written an index into, and the pack's own."""
    places = map(Path, folder_paths.get_folder_paths(PLACE))
    found = {
        file.parent.relative_to(place).as_posix() for place in places for file in place.glob("**/model_index.json")
    }
    return [*sorted(found), DEMO]


def find_folder(name: str) -> TextToVideoFolder:
    """The folder of this name. Raises CCVDError for one that is not a text-to-video model."""
    if name == DEMO:
        return read_folder(DEMO_FOLDER)
    found = [Path(place) / name for place in folder_paths.get_folder_paths(PLACE)]
    return read_folder(next((path for path in found if path.is_dir()), found[0]))
