"""The Wan VAE over a whole clip at once, on the parameters of diffusers' `AutoencoderKLWan`.

The stock module walks through a clip in chunks and caches the last frames of every convolution, which is right for long
videos and slow for training. For short clips the same function is one causal convolution over all frames. Equal to the
stock encode and decode (`tests/demo/test_full_sequence_vae.py`), in bf16 with channels last about five times faster on
two cores with bf16 instructions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn

STOCK_SHAPE = {
    "base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}
"""`AutoencoderKLWan` arguments: Wan 2.1's shape with 16 instead of 96 base channels."""


def encode_moments(vae: AutoencoderKLWan, clips: Tensor) -> Tensor:
    """Posterior moments [batch, 2 z, 1 + k, height / 8, width / 8] of clips [batch, 3, 1 + 4 k, height, width]."""
    encoder: Any = vae.encoder
    x = _conv(encoder.conv_in, clips.to(memory_format=torch.channels_last_3d))
    for block in encoder.down_blocks:
        x = _resample(block, x) if isinstance(block, WanResample) else _block(block, x)
    x = _middle(encoder.mid_block, x)
    x = _conv(encoder.conv_out, _norm_silu(encoder.norm_out, x))
    return _conv(vae.quant_conv, x)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Clips [batch, 3, 1 + 4 k, 8 h, 8 w] of latents [batch, z, 1 + k, h, w]; not clamped, so gradients survive."""
    decoder: Any = vae.decoder
    x = _conv(vae.post_quant_conv, latents.to(memory_format=torch.channels_last_3d))
    x = _middle(decoder.mid_block, _conv(decoder.conv_in, x))
    for up_block in decoder.up_blocks:
        for resnet in up_block.resnets:
            x = _block(resnet, x)
        if up_block.upsamplers is not None:
            x = _resample(up_block.upsamplers[0], x)
    return _conv(decoder.conv_out, _norm_silu(decoder.norm_out, x))


def _conv(conv: WanCausalConv3d, x: Tensor) -> Tensor:
    weight, bias = conv.weight.to(x.dtype), None if conv.bias is None else conv.bias.to(x.dtype)
    pads: Any = conv._padding
    height_pad, width_pad = pads[2], pads[0]
    if x.shape[2] == 1:
        # A single frame only ever meets the last temporal tap: the others see zeros.
        return F.conv2d(x[:, :, 0], weight[:, :, -1], bias, padding=(height_pad, width_pad)).unsqueeze(2)
    if pads[4]:
        x = F.pad(x, (0, 0, 0, 0, pads[4], 0))
    return F.conv3d(x, weight, bias, padding=(0, height_pad, width_pad))


def _normalise(x: Tensor, gamma: Tensor) -> Tensor:
    rows = x.float()
    length = rows.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
    return rows * (x.shape[1] ** 0.5) * gamma / length


@torch.compile(dynamic=False)
def _normalise_silu(x: Tensor, gamma: Tensor) -> Tensor:
    return F.silu(_normalise(x, gamma)).to(x.dtype)


def _norm_silu(norm: WanRMS_norm, x: Tensor) -> Tensor:
    return _normalise_silu(x, norm.gamma.view(1, -1, 1, 1, 1))


def _block(block: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(block, WanResidualBlock):
        raise TypeError(f"expected a WanResidualBlock, got {type(block).__name__}")
    shortcut = x if isinstance(block.conv_shortcut, nn.Identity) else _conv(block.conv_shortcut, x)
    x = _conv(block.conv1, _norm_silu(block.norm1, x))
    return shortcut + _conv(block.conv2, _norm_silu(block.norm2, x))


def _middle(middle: Any, x: Tensor) -> Tensor:
    x = _block(middle.resnets[0], x)
    for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
        x = _block(resnet, _attention(attention, x))
    return x


def _attention(block: Any, x: Tensor) -> Tensor:
    batch, channels, frames, height, width = x.shape
    rows = _normalise(x, block.norm.gamma.view(1, -1, 1, 1, 1)).to(x.dtype)
    rows = rows.permute(0, 2, 3, 4, 1).reshape(batch * frames, 1, height * width, channels)
    qkv = F.linear(rows, block.to_qkv.weight.flatten(1).to(x.dtype), block.to_qkv.bias.to(x.dtype))
    query, key, value = qkv.chunk(3, -1)
    out = F.scaled_dot_product_attention(query, key, value)
    out = F.linear(out, block.proj.weight.flatten(1).to(x.dtype), block.proj.bias.to(x.dtype))
    return x + out.view(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)


def _spatial(resample: Any, x: Tensor) -> Tensor:
    batch, _, frames = x.shape[:3]
    images = x.transpose(1, 2).flatten(0, 1)
    conv = resample[1]
    weight, bias = conv.weight.to(x.dtype), conv.bias.to(x.dtype)
    if isinstance(resample[0], nn.ZeroPad2d):
        images = F.conv2d(F.pad(images, (0, 1, 0, 1)), weight, bias, stride=2)
    else:
        images = F.conv2d(F.interpolate(images, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    return images.unflatten(0, (batch, frames)).transpose(1, 2)


def _resample(block: Any, x: Tensor) -> Tensor:
    if block.mode == "upsample3d" and x.shape[2] > 1:
        later = _conv(block.time_conv, x[:, :, 1:])
        first, second = later.chunk(2, 1)
        later = torch.stack([first, second], 3).flatten(2, 3)
        x = torch.cat([x[:, :, :1], later], 2)
    x = _spatial(block.resample, x)
    if block.mode == "downsample3d" and x.shape[2] > 1:
        weight, bias = block.time_conv.weight.to(x.dtype), block.time_conv.bias.to(x.dtype)
        x = torch.cat([x[:, :, :1], F.conv3d(x, weight, bias, stride=(2, 1, 1))], 2)
    return x
