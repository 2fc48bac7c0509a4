"""A text-to-video folder in ComfyUI's objects predicts, reads and decodes what diffusers' own objects do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.clip_text import ClipText
from ccvd_core.backbones.comfy_unet3d import ComfyUNet3DBackbone
from ccvd_core.backbones.diffusers_folder import read_folder
from ccvd_core.errors import CCVDError
from ccvd_core.prompts.mentions import Mention, mention_rows
from tests.backbones.pack import from_pack
from tests.tiny_text_to_video import write_text_to_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("models") / "tiny"
    return path, write_text_to_video(path)


@pytest.fixture(scope="module")
def loaded(folder: tuple[Path, dict[str, Any]], backbones: dict[str, Backbone]) -> dict[str, Any]:
    host, found = from_pack("nodes.host.text_to_video"), read_folder(folder[0])
    return {"model": host.load_model(found), "clip": host.load_clip(found), "vae": host.load_vae(found)}


def test_the_model_denoises_as_diffusers(folder, loaded):
    model, unet, scheduler = loaded["model"].model, folder[1]["unet"], folder[1]["scheduler"]
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 4, 3, 4, 6, generator=generator), torch.randn(2, 7, 32, generator=generator)
    remaining = scheduler.alphas_cumprod[[700, 30]]
    sigma = ((1 - remaining) / remaining).sqrt()
    with torch.no_grad():
        ours = model.apply_model(x, sigma, c_crossattn=context)
        scale = (1 + sigma**2).rsqrt().view(-1, 1, 1, 1, 1)
        noise = unet(x * scale, torch.tensor([700, 30]), context, return_dict=False)[0]
    torch.testing.assert_close(ours, x - sigma.view(-1, 1, 1, 1, 1) * noise, atol=1e-4, rtol=1e-4)
    assert model.latent_format.latent_dimensions == 3 and model.latent_format.scale_factor == pytest.approx(0.18215)


def test_the_backbone_is_found_and_predicts_what_the_model_does(folder, loaded):
    host = from_pack("nodes.host.backbone")
    reader = from_pack("nodes.host.text_encoder").PromptReader(loaded["clip"], host.family_of(loaded["model"]).encoder)
    backbone = host.backbone_of(loaded["model"], reader)
    assert type(backbone).__name__ == ComfyUNet3DBackbone.__name__ and backbone.layers == 4
    x = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(2))
    context = reader("a dog runs").context[None]
    with torch.no_grad():
        model = loaded["model"].model
        # ComfyUI rounds to whole training steps: ask at the level of one.
        level = model.model_sampling.sigma(torch.tensor([500.0]))
        prediction = backbone.predict(x, level, context)
        denoised = model.apply_model(x, level, c_crossattn=context)
    torch.testing.assert_close(backbone.noise_path.clean(x, prediction, level), denoised, atol=1e-4, rtol=1e-4)


def test_text_is_read_as_transformers_reads_it(folder, loaded):
    from transformers import CLIPTokenizer

    text = "a Dog runs, on GRASS"
    tokenizer = CLIPTokenizer.from_pretrained(str(folder[0] / "tokenizer"))
    tokens = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = folder[1]["text"](tokens)[0]
    found = from_pack("nodes.host.text_encoder").PromptReader(loaded["clip"], from_pack("nodes.host.backbone").CLIP)(
        text
    )
    # ComfyUI keeps text encoders in half precision.
    torch.testing.assert_close(found.context, expected[0], atol=1e-2, rtol=1e-2)
    assert found.context.shape == (77, 32)
    assert mention_rows(found.pieces, Mention("rex", "Dog", 0)) == (2,), "after the mark of the start, and `a`"
    assert mention_rows(found.pieces, Mention("rex", "GRASS", 0)) == (6,)


def test_tokens_before_the_encoder_are_read_as_transformers_reads_them(folder, loaded):
    from transformers import CLIPTokenizer

    text = "a dog runs on grass"
    theirs = ClipText(folder[1]["text"], CLIPTokenizer.from_pretrained(str(folder[0] / "tokenizer")))
    encoder = from_pack("nodes.host.backbone").CLIP
    reader = from_pack("nodes.host.text_encoder").PromptReader(loaded["clip"], encoder)
    values = torch.randn(3, 1, 32, generator=torch.Generator().manual_seed(4))
    found = reader.encode_with(text, (2,), values)
    torch.testing.assert_close(found, theirs.encode_with(text, (2,), values), atol=1e-2, rtol=1e-2)
    assert (found[0] - found[1]).abs().max() > 0.1
    longer = " ".join([text] * 20)
    plain = reader(longer).context
    moved = reader.encode_with(longer, (77 + 5,), values)
    assert plain.shape == (154, 32) and torch.equal(moved[:, :82], plain[:82].expand(3, -1, -1))
    assert (moved - plain)[:, 82:].abs().amax(-1).gt(0).all(), "a long prompt is read in parts"
    assert torch.equal(reader(longer).context, plain)


def test_clips_are_encoded_and_decoded_frame_by_frame(folder, loaded):
    vae, theirs = loaded["vae"], folder[1]["vae"]
    clip = torch.rand(3, 32, 48, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        latents = vae.encode(clip)
        expected = theirs.encode(clip.movedim(-1, 1) * 2 - 1).latent_dist.mean
        frames = vae.decode(latents)
        decoded = theirs.decode(expected).sample.movedim(1, -1)
    assert latents.shape == (1, 4, 3, 4, 6) and frames.shape == (1, 3, 32, 48, 3)
    torch.testing.assert_close(latents[0].movedim(1, 0).float(), expected, atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(frames[0].float(), (decoded / 2 + 0.5).clamp(0, 1), atol=2e-2, rtol=1e-2)


def test_half_precision_files_and_v_prediction_are_loaded(tmp_path: Path, backbones):
    write_text_to_video(tmp_path / "v", "v_prediction", "fp16")
    found = read_folder(tmp_path / "v")
    assert found.unet.weights.name == "diffusion_pytorch_model.fp16.safetensors"
    model = from_pack("nodes.host.text_to_video").load_model(found)
    assert model.model.model_type.name == "V_PREDICTION"


def test_weights_that_do_not_fit_are_refused(folder, tmp_path: Path, backbones):
    shutil.copytree(folder[0], tmp_path / "odd")
    file = tmp_path / "odd" / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "block_out_channels": [16, 48]}))
    errors = from_pack("ccvd_core.errors")
    with pytest.raises(errors.CCVDError, match="weights do not fit its configuration"):
        from_pack("nodes.host.text_to_video").load_model(read_folder(tmp_path / "odd"))


def another_network(path: Path) -> None:
    (path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')


def old_weights(path: Path) -> None:
    (path / "vae" / "diffusion_pytorch_model.safetensors").rename(path / "vae" / "diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_network, "unet holds UNet2DConditionModel and not UNet3DConditionModel"),
        (old_weights, r"vae has no diffusion_pytorch_model\.safetensors, only diffusion_pytorch_model\.bin"),
        (lambda path: shutil.rmtree(path / "text_encoder"), r"no text_encoder/config\.json.*in it is .*tokenizer"),
        (lambda path: (path / "tokenizer" / "merges.txt").unlink(), r"its tokenizer lacks merges\.txt"),
        (lambda path: (path / "unet" / "config.json").write_text("{"), r"unet/config\.json is damaged"),
        (lambda path: shutil.rmtree(path), "There is no folder"),
    ],
)
def test_a_folder_that_is_something_else_says_what_was_found(folder, tmp_path: Path, change, message: str):
    shutil.copytree(folder[0], tmp_path / "odd")
    change(tmp_path / "odd")
    with pytest.raises(CCVDError, match=rf"(?s){message}.*Choose the folder of a text-to-video model"):
        read_folder(tmp_path / "odd")
