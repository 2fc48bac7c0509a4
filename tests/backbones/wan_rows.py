"""The README's table of models as data: a small file of each in its real keys, and how ComfyUI's own node feeds it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.backbones.gguf_layers import layers_of_packed, packed, unpacked
from tests.backbones.wan_family import FAMILY, Member, PoolingVAE, metadata_of, weights_of
from tests.backbones.wan_lesson import FRAMES

WIDTH, HEIGHT, LENGTH = 64, 96, 9
FP8 = torch.float8_e4m3fn
READ = ("text_embedding", ".cross_attn.v.", ".cross_attn.o.")

File = tuple[dict[str, Tensor], dict[str, Any]]
"""Weights by their keys, and the options that ComfyUI's loader is called with."""
Fed = tuple[Any, Any, dict[str, Any]]
"""Positive and negative CONDITIONING, and a LATENT."""


@dataclass(frozen=True)
class Row:
    """A model of the README's table.

    `feed` names ComfyUI's node that the model's conditions come from, and what it is given beside the usual; empty: the
    text alone. `file` makes a file's weights of plain ones.
    """

    member: Member
    feed: str = ""
    given: Callable[[], Mapping[str, Any]] = dict
    file: Callable[[dict[str, Tensor]], File] = lambda weights: (weights, {})
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of Learn Concept, where they differ."""
    outputs: tuple[int, int, int] = (0, 1, 2)
    """Which of the node's are positive, negative and latent; -1: it has none."""
    keeps_start: bool = False
    """The start picture is in the latents themselves, and stays."""
    unpacked: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    """For files of packed weights: what the weights mean."""


def eye() -> Any:
    """What CLIP Vision says of a picture."""
    rows = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(7))
    return SimpleNamespace(penultimate_hidden_states=rows)


def two_eyes() -> Mapping[str, Any]:
    return {
        "start_image": FRAMES[:1],
        "end_image": FRAMES[-1:],
        "clip_vision_start_image": eye(),
        "clip_vision_end_image": eye(),
    }


def camera() -> Mapping[str, Any]:
    from comfy_extras.nodes_camera_trajectory import WanCameraEmbedding

    path = WanCameraEmbedding.execute("Pan Right", WIDTH, HEIGHT, LENGTH).result[0]
    return {"start_image": FRAMES[:1], "camera_conditions": path}


def sound() -> Mapping[str, Any]:
    heard = torch.randn(25, 1, 40, 1024, generator=torch.Generator().manual_seed(3))
    return {"ref_image": FRAMES[:1], "audio_encoder_output": {"encoded_audio_all_layers": list(heard)}}


def in_8_bits(weights: dict[str, Tensor]) -> File:
    """As fp8 files have them: matrices in 8 bits, what is small in full precision.

    With Load Diffusion Model's `weight_dtype`: by itself ComfyUI widens a file that is as small as this one.
    """
    return {key: w.to(FP8) if is_matrix(key, w) else w for key, w in weights.items()}, {"dtype": FP8}


def narrowed(made: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loader brings all to 8 bits then, but for the first layer, which ComfyUI keeps in full precision."""
    return {key: w if key.startswith("patch_embedding") else w.to(FP8).float() for key, w in made.items()}


def in_scaled_8_bits(weights: dict[str, Tensor]) -> File:
    """As `..._fp8_scaled` files have them: each matrix with its scale beside it, and a mark."""
    made: dict[str, Tensor] = {"scaled_fp8": torch.zeros(2, dtype=FP8)}
    for key, weight in weights.items():
        if not is_matrix(key, weight):
            made[key] = weight
            continue
        scale = weight.abs().max() / torch.finfo(FP8).max
        made[key] = (weight / scale).to(FP8)
        made[key.removesuffix("weight") + "scale_weight"] = scale
    return made, {}


def scaled_back(made: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {key.removesuffix("scale_weight") + "weight": w for key, w in made.items() if key.endswith("scale_weight")}
    whole = {key: w for key, w in made.items() if key != "scaled_fp8" and not key.endswith("scale_weight")}
    return {key: w.float() * scales.get(key, 1.0) for key, w in whole.items()}


def in_gguf(weights: dict[str, Tensor]) -> File:
    """As the pack ComfyUI-GGUF gives a file to ComfyUI's loader: packed weights, and layers that unpack them."""
    made: dict[str, Tensor] = {key: packed(weight, is_matrix(key, weight)) for key, weight in weights.items()}
    return made, {"custom_operations": layers_of_packed()}


def is_matrix(key: str, weight: Tensor) -> bool:
    return key.startswith("blocks.") and key.endswith(".weight") and weight.ndim == 2


I2V = {"start_image": FRAMES[:1]}
TEXT = FAMILY["2.1 text-to-video"]
ROWS: Mapping[str, Row] = {
    "Wan 2.1 T2V": Row(TEXT),
    "Wan 2.1 I2V": Row(FAMILY["2.1 image-to-video"], "WanImageToVideo", lambda: {**I2V, "clip_vision_output": eye()}),
    "Wan 2.1 FLF2V": Row(FAMILY["2.1 first and last frame"], "WanFirstLastFrameToVideo", two_eyes),
    "Wan 2.1 Fun Inpaint": Row(
        FAMILY["2.1 image-to-video"],
        "WanFunInpaintToVideo",
        lambda: {"start_image": FRAMES[:1], "end_image": FRAMES[-1:], "clip_vision_output": eye()},
    ),
    "Wan 2.1 VACE": Row(
        FAMILY["VACE"],
        "WanVaceToVideo",
        lambda: {"strength": 1.0, "control_video": FRAMES, "reference_image": FRAMES[:1]},
    ),
    "Wan 2.1 Fun Control": Row(
        FAMILY["2.1 Fun Control"], "WanFunControlToVideo", lambda: {**I2V, "control_video": FRAMES}
    ),
    "Wan 2.1 Fun Camera": Row(FAMILY["2.1 Fun Camera"], "WanCameraImageToVideo", camera),
    "Phantom": Row(TEXT, "WanPhantomSubjectToVideo", lambda: {"images": FRAMES[:2]}, outputs=(0, 1, 3)),
    "Wan 2.2 TI2V 5B": Row(
        FAMILY["2.2 text-and-image 5B"], "Wan22ImageToVideoLatent", lambda: I2V, outputs=(-1, -1, 0), keeps_start=True
    ),
    "Wan 2.2 T2V A14B, high noise": Row(TEXT, settings={"noise_from": 0.875}),
    "Wan 2.2 T2V A14B, low noise": Row(TEXT, settings={"noise_to": 0.875}),
    "Wan 2.2 I2V A14B, high noise": Row(
        FAMILY["2.2 image-to-video 14B"], "WanImageToVideo", lambda: I2V, settings={"noise_from": 0.9}
    ),
    "Wan 2.2 I2V A14B, low noise": Row(
        FAMILY["2.2 image-to-video 14B"], "WanImageToVideo", lambda: I2V, settings={"noise_to": 0.9}
    ),
    "Wan 2.2 Fun Control": Row(
        FAMILY["2.2 Fun Control 14B"],
        "Wan22FunControlToVideo",
        lambda: {"control_video": FRAMES, "ref_image": FRAMES[:1]},
    ),
    "Wan 2.2 Fun Camera": Row(FAMILY["2.2 Fun Camera"], "WanCameraImageToVideo", camera),
    "Wan 2.2 Animate": Row(
        FAMILY["Animate"],
        "WanAnimateToVideo",
        lambda: {
            "reference_image": FRAMES[:1],
            "pose_video": FRAMES,
            "clip_vision_output": eye(),
            "continue_motion_max_frames": 5,
            "video_frame_offset": 0,
        },
    ),
    "Wan 2.2 S2V": Row(FAMILY["Sound-to-Video"], "WanSoundImageToVideo", sound),
    "fp8": Row(TEXT, file=in_8_bits, unpacked=narrowed),
    "scaled fp8": Row(TEXT, file=in_scaled_8_bits, unpacked=scaled_back),
    "GGUF": Row(TEXT, file=in_gguf, unpacked=lambda made: {key: unpacked(w).clone() for key, w in made.items()}),
}


def readers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As weights of a model for which its text matters: random ones make next to nothing of it."""
    return {key: w * 5 if any(part in key for part in READ) and w.ndim == 2 else w for key, w in weights.items()}


def load(row: Row) -> Any:
    """MODEL, by the loader under Load Diffusion Model."""
    return loaded(row, *row.file(readers(weights_of(row.member))))


def load_unpacked(row: Row) -> Any:
    """The same model in full precision."""
    assert row.unpacked is not None
    return loaded(row, row.unpacked(row.file(readers(weights_of(row.member)))[0]), {})


def loaded(row: Row, weights: dict[str, Tensor], options: dict[str, Any]) -> Any:
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(weights, options, metadata=metadata_of(row.member))
    assert model is not None and type(model.model).__name__ == row.member.base
    return model


def sibling(row: Row) -> Row:
    """The text-to-video model of the same size."""
    layers = {key: value for key, value in row.member.config.items() if key == "num_layers"}
    return Row(replace(TEXT, config=layers))


def feed(row: Row, positive: Any, negative: Any, vae: PoolingVAE, monkeypatch: pytest.MonkeyPatch) -> Fed:
    """As ComfyUI's own node does, for a clip of `LENGTH` frames."""
    if not row.feed:
        return positive, negative, {"samples": torch.zeros(1, 16, (LENGTH - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8)}
    monkeypatch.setitem(sys.modules, "nodes", SimpleNamespace(MAX_RESOLUTION=16384))
    import comfy_extras.nodes_wan as nodes_wan

    usual = {"vae": vae, "width": WIDTH, "height": HEIGHT, "length": LENGTH, "batch_size": 1}
    texts = {} if row.outputs[0] < 0 else {"positive": positive, "negative": negative}
    made = getattr(nodes_wan, row.feed).execute(**texts, **usual, **row.given()).result
    if not texts:
        return positive, negative, made[row.outputs[2]]
    at = row.outputs
    return made[at[0]], made[at[1]], made[at[2]]
