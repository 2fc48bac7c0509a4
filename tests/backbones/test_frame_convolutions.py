"""The demo base's VAE on a processor: quicker, and the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ccvd_core.backbones.base import Backbone
from tests.backbones.pack import from_pack


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 1, 1), (3, 3, 3), (2, 3, 1)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_it_is_conv3d(
    backbones: dict[str, Backbone], kernel: tuple[int, int, int], stride: tuple[int, int, int], padding: tuple[int, int]
):
    convolve_frames = from_pack("nodes.host.frame_convolutions").convolve_frames
    torch.manual_seed(0)
    clip = torch.randn(2, 5, 7, 6, 8, dtype=torch.float64)
    weight, bias = torch.randn(4, 5, *kernel, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    for at in (bias, None):
        expected = F.conv3d(clip, weight, at, stride, (0, *padding))
        torch.testing.assert_close(convolve_frames(clip, weight, at, stride, padding), expected)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9])
def test_the_demo_vae_is_what_the_stock_loader_gives(backbones: dict[str, Backbone], frames: int):
    import comfy.sd
    import comfy.utils

    demo_base: Any = from_pack("nodes.host.demo_base")
    stock = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(demo_base.VAE_FILE)))
    quick = demo_base.load_vae()
    pixels = torch.rand(frames, 32, 24, 3, generator=torch.Generator().manual_seed(1))
    latents = stock.encode(pixels)
    torch.testing.assert_close(quick.encode(pixels), latents, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(quick.decode(latents), stock.decode(latents), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_no_clip_goes_the_slow_way(backbones: dict[str, Backbone]):
    vae = from_pack("nodes.host.demo_base").load_vae()
    with torch.profiler.profile() as profile:
        vae.decode(vae.encode(torch.rand(5, 32, 32, 3)))
    called = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_convolution" in called and not {name for name in called if "slow_conv3d" in name}
