"""The committed demo base: the same model in diffusers and through ComfyUI's own loaders."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from base import LATENT_SHAPE, WEIGHTS, DemoBase, load_base
from text import tokenize
from world.scenes import Actor, Scene
from world.subjects import Subject

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.pack import from_pack

CAPTION = "a dog moving right and a star still on green grass in plain style"


@pytest.fixture(scope="module")
def base() -> DemoBase:
    return load_base()


@pytest.fixture(scope="module")
def native(backbones: dict[str, Backbone]) -> Any:
    """MODEL, CLIP and VAE by the code under UNETLoader, VAELoader and CCVD Demo Model."""
    import comfy.model_management
    import comfy.sd
    import comfy.utils

    demo_model = from_pack("nodes.host.demo_base")
    model = comfy.sd.load_diffusion_model(str(demo_model.MODEL_FILE))
    comfy.model_management.load_models_gpu([model])
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(demo_model.VAE_FILE)))
    return SimpleNamespace(model=model, clip=demo_model.load_clip(demo_model.TEXT_FILE), vae=vae)


def test_tokens_before_the_encoder_are_read_layer_by_layer(base: DemoBase):
    backbone, text, row = base.backbone(), "a dog moving right", 1
    values = torch.randn(backbone.layers, 1, backbone.text_width, generator=torch.Generator().manual_seed(0))
    numbers = tokenize(base.tokenizer, [text])
    mask = numbers.ne(0)
    expected = []
    for added in values[:, 0]:
        embedded = base.encoder.get_parameter("shared.weight")[numbers[0]].clone()
        embedded[row] += added
        expected.append(
            base.encoder(inputs_embeds=embedded[None], attention_mask=mask).last_hidden_state * mask[..., None]
        )
    found = base.encode_with(text, [row], values.requires_grad_())
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert found.requires_grad
    plain = base.encode_with(text, [row], torch.zeros(1, 1, backbone.text_width))
    torch.testing.assert_close(plain[0], backbone.encode(text).context)


def test_the_weights_fit_into_the_repository():
    sizes = {path.name: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert len(sizes) == 3 and sum(sizes.values()) <= 25e6, sizes


def test_the_file_says_what_the_stock_loader_cannot_detect():
    with (WEIGHTS / "ccvd_demo_model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    assert json.loads(header["__metadata__"]["config"]) == {"transformer": {"num_heads": 3, "text_dim": 192}}


@torch.no_grad()
def test_same_text_contexts(base: DemoBase, native: Any):
    tokens = native.clip.tokenize(CAPTION)
    context = native.clip.encode_from_tokens(tokens)
    # ComfyUI keeps the text encoder's fp16 weights and computes in float32; here the weights were widened first.
    torch.testing.assert_close(context[0], base.encode_text(CAPTION).context, atol=2e-3, rtol=2e-3)
    assert native.clip.tokenize("")["umt5xxl"][0][0][0] == 1, "an empty prompt is the end token and padding"


@torch.no_grad()
def test_same_predictions(base: DemoBase, native: Any):
    ours = base.backbone()
    theirs = ComfyWanBackbone(native.model.model.diffusion_model, base.encode_text)
    prompt = aggregate(ours, CAPTION, ()).prompt
    latents = torch.randn(2, *LATENT_SHAPE, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.8, 0.2])
    one, other = (predict_prompts(backbone, latents, t, [prompt, prompt]) for backbone in (ours, theirs))
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)
    assert ours.fingerprint.matches(theirs.fingerprint)


@torch.no_grad()
def test_same_vae(base: DemoBase, native: Any):
    frames = (
        torch.from_numpy(
            Scene(
                (Actor(Subject("cat", "members/noto_1f431"), "moving left", 56.0, (80.0, 60.0)),), "blue sky"
            ).render()
        )
        / 255.0
    )
    latents = native.model.model.process_latent_in(native.vae.encode(frames))
    ours = base.to_latents(frames.permute(3, 0, 1, 2).unsqueeze(0) * 2 - 1)
    torch.testing.assert_close(latents.float(), ours, atol=5e-3, rtol=5e-3)
    drawn = native.vae.decode(native.model.model.process_latent_out(ours))
    torch.testing.assert_close(drawn.reshape(9, 128, 128, 3).float(), base.to_clips(ours)[0], atol=5e-3, rtol=0)


def test_loads_with_diffusers_single_file_loaders():
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    folder = str(WEIGHTS / "diffusers")
    transformer = WanTransformer3DModel.from_single_file(
        str(WEIGHTS / "ccvd_demo_model.safetensors"), config=folder, subfolder="transformer", local_files_only=True
    )
    vae = AutoencoderKLWan.from_single_file(
        str(WEIGHTS / "ccvd_demo_vae.safetensors"), config=folder, subfolder="vae", local_files_only=True
    )
    assert transformer.config.num_attention_heads == 3 and vae.config.base_dim == 16
    assert torch.equal(
        transformer.state_dict()["proj_out.weight"], load_base().transformer.state_dict()["proj_out.weight"]
    )
