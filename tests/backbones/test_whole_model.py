"""Folders of models as whole models: the demo base, diffusers' Wan and text-to-video layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from base import WEIGHTS, load_base

from ccvd_core.backbones.model_folders import load_whole_model
from ccvd_core.backbones.whole_model import WholeModel
from ccvd_core.errors import CCVDError
from tests.tiny_text_to_video import write_text_to_video

CPU = torch.device("cpu")


def clip(frames: int, side: int) -> torch.Tensor:
    """Soft colours in 0..1, [1, 3, frames, side, side]."""
    coarse = torch.rand(1, 3, frames, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (frames, side, side), mode="trilinear")


def predicted(model: WholeModel, latents: torch.Tensor, text: str) -> torch.Tensor:
    context = model.backbone.encode(text).context
    return model.backbone.predict(latents[None], torch.tensor([0.5]), context[None])[0]


@torch.no_grad()
def test_the_demo_base_is_what_the_tests_of_the_method_run_on():
    ours, base = load_whole_model(WEIGHTS, CPU), load_base()
    text = "a dog moving right on green grass"
    theirs = base.encode_text(text)
    torch.testing.assert_close(ours.backbone.encode(text).context, theirs.context)
    assert ours.backbone.encode(text).pieces == theirs.pieces
    pixels = clip(5, 32)
    latents = ours.to_latents(pixels)
    assert latents.shape == ours.latent_shape(5, 32, 32)
    torch.testing.assert_close(latents, base.to_latents(pixels * 2 - 1)[0], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(ours.to_frames(latents[None]), base.to_clips(latents[None]), atol=5e-3, rtol=5e-3)
    backbone = base.backbone()
    expected = backbone.predict(latents[None], torch.tensor([0.5]), theirs.context[None])[0]
    torch.testing.assert_close(predicted(ours, latents, text), expected, atol=1e-4, rtol=1e-4)
    assert ours.backbone.fingerprint.matches(backbone.fingerprint)


@torch.no_grad()
def test_a_text_to_video_folder(tmp_path: Path):
    parts = write_text_to_video(tmp_path)
    model = load_whole_model(tmp_path, CPU)
    latents = model.to_latents(clip(3, 32))
    assert latents.shape == model.latent_shape(3, 32, 32) == (4, 3, 4, 4)
    assert model.to_frames(latents[None]).shape == (1, 3, 32, 32, 3)
    assert predicted(model, latents, "a dog runs").shape == latents.shape
    assert [piece for piece in model.backbone.encode("a dog runs").pieces if piece] == [" a", " dog", " runs"]
    for name in ("unet", "vae"):
        assert parts[name] is not None


@pytest.fixture
def wan_folder(tmp_path: Path) -> Path:
    """A tiny random Wan as diffusers writes it."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=24,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    ).save_pretrained(tmp_path / "transformer")
    AutoencoderKLWan(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(tmp_path / "vae")
    base = load_base()
    sizes = {"d_model": 24, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    pieces = base.encoder.get_parameter("shared.weight").shape[0]
    UMT5EncoderModel(UMT5Config(vocab_size=pieces, **sizes)).save_pretrained(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "spiece.model").write_bytes(base.tokenizer)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    return tmp_path


@torch.no_grad()
def test_a_folder_of_wan(wan_folder: Path):
    model = load_whole_model(wan_folder, CPU)
    latents = model.to_latents(clip(5, 32))
    assert latents.shape == model.latent_shape(5, 32, 32) == (16, 2, 4, 4)
    assert model.to_frames(latents[None]).shape == (1, 5, 32, 32, 3)
    read = model.backbone.encode("a dog moving right")
    assert read.pieces == (" a", " dog", " moving", " right")
    assert read.context.shape == (512, 24) and not read.context[len(read.pieces) + 1 :].any()
    assert read.context[: len(read.pieces) + 1].abs().sum(1).all()
    assert predicted(model, latents, "a dog").shape == latents.shape


def change(folder: Path, part: str, **values: Any) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_folders_that_cannot_be_used_say_why(wan_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    with pytest.raises(CCVDError, match=r"is no model that can be used here, but nothing\. Expected the demo base"):
        load_whole_model(other, CPU)
    with pytest.raises(CCVDError, match="There is no folder"):
        load_whole_model(other / "missing", CPU)
    (other / "unet").mkdir()
    (other / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(CCVDError, match="holds UNet2DConditionModel and not UNet3DConditionModel"):
        load_whole_model(other, CPU)
    (wan_folder / "tokenizer" / "spiece.model").unlink()
    with pytest.raises(CCVDError, match=r"lacks tokenizer/spiece\.model"):
        load_whole_model(wan_folder, CPU)
    change(wan_folder, "transformer", in_channels=36)
    with pytest.raises(CCVDError, match="image-to-video"):
        load_whole_model(wan_folder, CPU)
    (wan_folder / "transformer_2").mkdir()
    with pytest.raises(CCVDError, match="has two experts"):
        load_whole_model(wan_folder, CPU)


def test_videos_of_other_sizes_are_refused():
    model = load_whole_model(WEIGHTS, CPU)
    with pytest.raises(CCVDError, match=r"length of a video must be 1, 5, 9, 13"):
        model.latent_shape(8, 64, 64)
    with pytest.raises(CCVDError, match="width must be a multiple of 16 pixels on this model; got 72"):
        model.latent_shape(9, 64, 72)
