"""Video convolutions on a processor, which PyTorch computes the slow way for a single clip in fp32.

For a batch of one it leaves oneDNN aside (`slow_conv3d`), which takes four to ten times as long. A convolution over k
frames is one over pictures that have k frames' channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def convolve_frames(
    clip: Float[Tensor, "batch channels frames height width"],
    weight: Float[Tensor, "out channels kernel_frames kernel_height kernel_width"],
    bias: Float[Tensor, " out"] | None,
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """`F.conv3d` with padding in height and width only, as one convolution over pictures."""
    windows = clip.unfold(2, weight.shape[2], stride[0])  # [batch, channels, frames, height, width, kernel frames]
    pictures = windows.permute(0, 2, 1, 5, 3, 4).flatten(2, 3).flatten(0, 1)
    out = F.conv2d(pictures, weight.flatten(1, 2), bias, stride[1:], padding)
    return out.unflatten(0, (len(clip), -1)).movedim(1, 2)


def quicken_on_cpu(network: nn.Module) -> None:
    """Let the Conv3d layers of ComfyUI's video VAE go over pictures where one clip in fp32 lies on a processor."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and can_go_over_frames(module):
            module._conv_forward = partial(_conv_forward, module, module._conv_forward)  # type: ignore[method-assign]


def can_go_over_frames(conv: nn.Conv3d) -> bool:
    """Whether nothing is padded in time, spread or grouped."""
    return conv.padding[0] == 0 and set(conv.dilation) == {1} and conv.groups == 1 and conv.padding_mode == "zeros"


def _conv_forward(
    conv: nn.Conv3d, ordinary: Any, clip: Tensor, weight: Tensor, bias: Tensor | None, autopad: str | None = None
) -> Tensor:
    if clip.device.type != "cpu" or clip.dtype != torch.float32 or len(clip) > 1:
        return ordinary(clip, weight, bias, **({"autopad": autopad} if autopad else {}))
    if autopad == "causal_zero":  # ComfyUI's word for frames of zeros before the clip: their weights are left out
        weight = weight[:, :, -clip.shape[2] :]
    height, width = (int(side) for side in conv.padding[1:])
    stride = (conv.stride[0], conv.stride[1], conv.stride[2])
    return convolve_frames(clip, weight, bias, stride, (height, width))
