"""The whole-clip VAE against diffusers' own, chunk by chunk with its cache."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from full_sequence_vae import STOCK_SHAPE, decode, encode_moments
from latents import fold_statistics


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(**STOCK_SHAPE).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return vae


@pytest.mark.parametrize("frames", [1, 5, 9])
@torch.no_grad()
def test_equals_the_stock_encoder_and_decoder(vae: AutoencoderKLWan, frames: int):
    clips = torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    moments = encode_moments(vae, clips)
    # Both are float32 through about forty convolutions, summed in another order.
    torch.testing.assert_close(moments, vae._encode(clips), atol=1e-4, rtol=1e-4)
    latents = moments[:, : STOCK_SHAPE["z_dim"]]
    torch.testing.assert_close(decode(vae, latents).clamp(-1, 1), vae.decode(latents).sample, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_folding_gives_wan_statistics_and_the_same_pictures(vae: AutoencoderKLWan):
    clips = torch.rand(4, 3, 5, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    channels = STOCK_SHAPE["z_dim"]
    latents = encode_moments(vae, clips)[:, :channels]
    before = decode(vae, latents)
    std, mean = torch.std_mean(latents, (0, 2, 3, 4))
    state = {name: value.clone() for name, value in vae.state_dict().items()}
    fold_statistics(vae, mean, std)
    try:
        folded = encode_moments(vae, clips)[:, :channels]
        torch.testing.assert_close(
            folded.mean((0, 2, 3, 4)), torch.tensor(vae.config.latents_mean), atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(folded.std((0, 2, 3, 4)), torch.tensor(vae.config.latents_std), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(decode(vae, folded), before, atol=1e-3, rtol=1e-3)
    finally:
        vae.load_state_dict(state)
