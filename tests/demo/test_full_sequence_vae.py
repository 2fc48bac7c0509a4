"""The whole-clip VAE against diffusers' own, chunk by chunk with its cache."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from full_sequence_vae import STOCK_SHAPE, decode, encode_moments


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**STOCK_SHAPE).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return vae


@pytest.mark.parametrize(("frames", "stance"), [(1, "force_eager"), (5, "default"), (9, "force_eager")])
@torch.no_grad()
def test_equals_the_stock_encoder_and_decoder(vae: AutoencoderKLWan, frames: int, stance: str):
    """Once compiled, as it is used."""
    clips = torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    with torch.compiler.set_stance(stance):
        equals_the_stock_one(vae, clips)


def equals_the_stock_one(vae: AutoencoderKLWan, clips: torch.Tensor) -> None:
    moments = encode_moments(vae, clips)
    # Both are float32 through about forty convolutions, summed in another order.
    torch.testing.assert_close(moments, vae._encode(clips), atol=1e-4, rtol=1e-4)
    latents = moments[:, : STOCK_SHAPE["z_dim"]]
    torch.testing.assert_close(decode(vae, latents).clamp(-1, 1), vae.decode(latents).sample, atol=1e-4, rtol=1e-4)
