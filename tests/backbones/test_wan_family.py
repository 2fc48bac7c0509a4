"""Learn Concept on every Wan model that ComfyUI knows: with its own conditions, or refused by name and at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.base_match import misfit, sibling_notes
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.wan_variants import VARIANTS, wan_variant
from ccvd_core.concepts.concept import Concept
from ccvd_core.concepts.library import ConceptLibrary
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.pack import from_pack
from tests.backbones.scenes import adapters
from tests.backbones.wan_family import FAMILY, TEXT_WIDTH, PoolingVAE, build
from tests.backbones.wan_lesson import FRAMES

LEARN = [name for name, member in FAMILY.items() if member.learns]
REFUSED = [name for name, member in FAMILY.items() if not member.learns]
SHOWN = [name for name, member in FAMILY.items() if member.start_image]


def test_the_family_is_whole(backbones: dict[str, Backbone]):
    """Every class of ComfyUI's is in the table of variants, and among the models tested here."""
    import comfy.model_base
    import comfy.supported_models

    classes = {
        name
        for name, value in vars(comfy.model_base).items()
        if isinstance(value, type) and issubclass(value, comfy.model_base.WAN21)
    }
    assert set(VARIANTS) == classes == {member.base for member in FAMILY.values()}
    detected = [m for m in comfy.supported_models.models if m.unet_config.get("image_model") == "wan2.1"]
    assert len(detected) <= len(FAMILY)


@pytest.mark.parametrize("kind", ["subject", "motion"])
@pytest.mark.parametrize("name", LEARN)
def test_it_learns_with_its_own_conditions(name: str, kind: str, lesson: Callable[..., Any], tmp_path: Path):
    member = FAMILY[name]
    model, vae = build(member), PoolingVAE(member.channels)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    output = lesson(model, vae, kind=kind).run()
    concept = ConceptLibrary(tmp_path / "family").load("rex")
    assert concept.settings["steps_done"] == 2 and "in 2 steps" in output.result[2]
    assert len(concept.adapters) == 3 * (4 if kind == "subject" else 6)
    for site, adapter in concept.adapters.items():
        assert bool(adapter.b.isfinite().all()) and float(adapter.b.abs().max()) > 0, f"{site} got no gradient"
    assert concept.tokens.abs().amax((1, 2)).gt(0).all()
    sides = {size for frames in vae.encoded for size in frames.shape[1:3]}
    assert not [side for side in sides if side % (32 if member.channels == 48 else 16)]
    for key, value in model.model.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} has changed"


class Eye:
    """Stands in for CLIP Vision: rows that depend on the picture."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def encode_image(self, picture: Tensor) -> Any:
        self.seen.append(picture)
        rows = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(7))
        return SimpleNamespace(penultimate_hidden_states=rows * picture.mean())


SEEING = [name for name in SHOWN if FAMILY[name].config.get("model_type") == "i2v" or name == "2.1 Fun Camera"]


@pytest.mark.parametrize("name", SEEING)
def test_it_sees_the_first_frame_through_clip_vision(name: str, lesson: Callable[..., Any], tmp_path: Path):
    eye, vae = Eye(), PoolingVAE(16)
    seeing = lesson(build(FAMILY[name]), vae, library="seeing", clip_vision=eye)
    assert "CLIP Vision" not in seeing.run().result[2]
    (picture,) = eye.seen
    assert torch.equal(picture[0], vae.encoded[0][0]), "the clip's first frame as it was encoded"
    blind = lesson(build(FAMILY[name]), PoolingVAE(16), library="blind")
    assert "Note: " in (report := blind.run().result[2]) and "Load CLIP Vision to `clip_vision`" in report
    one, other = (ConceptLibrary(tmp_path / library).load("rex") for library in ("seeing", "blind"))
    assert one.settings["job"] != other.settings["job"]
    assert any(not torch.equal(lora.b, other.adapters[site].b) for site, lora in one.adapters.items())


def test_clip_vision_is_left_aside_where_it_means_nothing(lesson: Callable[..., Any]):
    eye = Eye()
    for name in ("2.1 text-to-video", "2.2 image-to-video 14B"):
        report = lesson(build(FAMILY[name]), PoolingVAE(16), library=name.replace(" ", "_"), clip_vision=eye).run()
        assert "CLIP Vision" not in report.result[2] and not eye.seen


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_name_before_anything_is_encoded(name: str, lesson: Callable[..., Any]):
    member = FAMILY[name]
    vae = PoolingVAE(member.channels)
    words = rf"{VARIANTS[member.base].title} cannot learn a concept here: .*text-to-video model of the same size"
    with pytest.raises(ValueError, match=words):
        lesson(build(member), vae)
    assert not vae.encoded


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_is_refused_where_the_model_is_shown_it(name: str, lesson: Callable[..., Any]):
    member = FAMILY[name]
    vae = PoolingVAE(member.channels)
    with pytest.raises(ValueError, match=r"shown the first frame of every clip, so a single picture leaves nothing"):
        lesson(build(member), vae, picture=True)
    assert not vae.encoded


def test_an_unknown_layout_or_class_is_refused_by_name():
    for variant in (wan_variant("WAN21", 16, 77), wan_variant("WAN30_New", 16, 16)):
        with pytest.raises(ValueError, match=r"(61 channels|the kind WAN30_New).*text-to-video model of the same size"):
            variant.check_learns()


def stock_conditioning(name: str, vae: PoolingVAE, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ComfyUI's own node puts on the conditioning for a clip that begins with the first frame."""
    monkeypatch.setitem(sys.modules, "nodes", SimpleNamespace(MAX_RESOLUTION=16384))
    import comfy_extras.nodes_wan as nodes_wan

    usual = {"positive": [[None, {}]], "negative": [[None, {}]], "vae": vae, "width": 64, "height": 96, "length": 9}
    start = {**usual, "batch_size": 1, "start_image": FRAMES[:1]}
    if name == "VACE":
        output = nodes_wan.WanVaceToVideo.execute(**usual, batch_size=1, strength=1.0)
    elif "Camera" in name:
        output = nodes_wan.WanCameraImageToVideo.execute(**start, camera_conditions=None)
    elif "2.1 Fun Control" in name:
        output = nodes_wan.WanFunControlToVideo.execute(**start)
    elif "2.2 Fun Control" in name:
        output = nodes_wan.Wan22FunControlToVideo.execute(**start)
    else:
        output = nodes_wan.WanImageToVideo.execute(**start)
    return output.result[0][0][1]


@pytest.mark.parametrize("name", [*(name for name in SHOWN if "Inpaint 5B" not in name), "VACE"])
@pytest.mark.usefixtures("backbones")
def test_it_is_shown_what_comfyuis_own_node_would_show(name: str, monkeypatch: pytest.MonkeyPatch):
    """(ComfyUI has no node for Fun Inpaint 5B's size of latents; it is Wan Image To Video's layout.)"""
    member = FAMILY[name]
    model, vae = build(member).model, PoolingVAE(member.channels)
    conditions = from_pack("ccvd_core.backbones.comfy_wan_conditions").WanConditions(model, vae)
    size = (96, 64)
    pixels = FRAMES[:, : size[0], : size[1]].permute(3, 0, 1, 2)[None]
    latents = model.process_latent_in(vae.encode(pixels[0].permute(1, 2, 3, 0)))[0]
    shown = conditions.shown(pixels, latents)
    stock = model.extra_conds(
        noise=latents[None], device=torch.device("cpu"), **stock_conditioning(name, vae, monkeypatch)
    )
    assert shown.keys() == stock.keys() and shown
    for key, condition in stock.items():
        if torch.is_tensor(condition.cond):
            torch.testing.assert_close(shown[key], condition.cond, atol=1e-6, rtol=0)
        else:
            assert shown[key] == condition.cond
    channels = shown["c_concat"].shape[1] if "c_concat" in shown else 0
    assert channels == model.diffusion_model.in_dim - member.channels


@pytest.mark.parametrize("name", LEARN)
@pytest.mark.usefixtures("backbones")
def test_it_predicts_as_comfyui_applies_it(name: str):
    """Two clips with conditions of their own in one call."""
    member = FAMILY[name]
    model, vae = build(member).model, PoolingVAE(member.channels)
    conditions = from_pack("ccvd_core.backbones.comfy_wan_conditions").WanConditions(model, vae, Eye())
    generator = torch.Generator().manual_seed(2)
    clips = [FRAMES.permute(3, 0, 1, 2)[None], FRAMES.flip(0).permute(3, 0, 1, 2)[None]]
    clean = [model.process_latent_in(vae.encode(pixels[0].permute(1, 2, 3, 0)))[0] for pixels in clips]
    shown = [conditions.shown(pixels, latents) for pixels, latents in zip(clips, clean, strict=True)]
    contexts = torch.randn(2, 6, TEXT_WIDTH, generator=generator)
    layers = len(model.diffusion_model.blocks)
    prompts = [
        ConceptPrompt(context, (), torch.zeros(layers, 1), torch.zeros(6, 1), given)
        for context, given in zip(contexts, shown, strict=True)
    ]
    noisy, t = torch.randn(2, *clean[0].shape, generator=generator), torch.tensor([0.9, 0.4])
    backbone = ComfyWanBackbone(model.diffusion_model, lambda _: None)  # type: ignore[arg-type, return-value]
    with torch.no_grad():
        velocity = predict_prompts(backbone, noisy, t, prompts)
        for row, given in enumerate(shown):
            clean_row = model.apply_model(
                noisy[row : row + 1], t[row : row + 1], c_crossattn=contexts[row : row + 1], **given
            )
            expected = (noisy[row : row + 1] - clean_row) / t[row]
            torch.testing.assert_close(velocity[row : row + 1], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LEARN)
@pytest.mark.usefixtures("backbones")
def test_checkpointing_changes_no_gradient(name: str, monkeypatch: pytest.MonkeyPatch):
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "in_training", True)
    member = FAMILY[name]
    model, vae = build(member).model, PoolingVAE(member.channels)
    conditions = from_pack("ccvd_core.backbones.comfy_wan_conditions").WanConditions(model, vae, Eye())
    pixels = FRAMES.permute(3, 0, 1, 2)[None]
    latents = model.process_latent_in(vae.encode(FRAMES))
    backbone = ComfyWanBackbone(model.diffusion_model, lambda _: None)  # type: ignore[arg-type, return-value]
    rows = torch.randn(6, TEXT_WIDTH, generator=torch.Generator().manual_seed(2))
    gradients = []
    for checkpointed in (False, True):
        context = rows.clone().requires_grad_()
        prompt = ConceptPrompt(context, (), torch.zeros(3, 1), torch.zeros(6, 1), conditions.shown(pixels, latents[0]))
        with Attachment(backbone, []):
            if checkpointed:
                with backbone.checkpointing():
                    predict_prompts(backbone, latents, torch.tensor([0.5]), [prompt]).square().sum().backward()
            else:
                predict_prompts(backbone, latents, torch.tensor([0.5]), [prompt]).square().sum().backward()
        assert context.grad is not None
        gradients.append(context.grad)
    assert float(gradients[0].abs().max()) > 0
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in FAMILY if "num_layers" not in FAMILY[name].config])
@pytest.mark.usefixtures("backbones")
def test_a_concept_of_the_text_to_video_model_fits_its_siblings(name: str):
    """Those too on which nothing can be learned."""
    t2v = build(FAMILY["2.1 text-to-video"]).model.diffusion_model
    home = ComfyWanBackbone(t2v, lambda _: None)  # type: ignore[arg-type, return-value]
    keys = torch.ones(home.layers, TEXT_WIDTH)
    tokens = torch.zeros(home.layers, 1, TEXT_WIDTH)
    concept = Concept("rex", "subject", "dog", adapters(home, 1), tokens, keys, keys, home.fingerprint)
    inner = build(FAMILY[name]).model.diffusion_model
    sibling = ComfyWanBackbone(inner, lambda _: None)  # type: ignore[arg-type, return-value]
    assert misfit(concept, sibling) is None
    notes = sibling_notes([concept], sibling)
    # VACE has the text-to-video model's own weights beside its control blocks, as the published one does.
    assert len(notes) == (name not in ("2.1 text-to-video", "VACE"))
    assert all(home.fingerprint.architecture in note and sibling.fingerprint.architecture in note for note in notes)


VAES = {
    "of the 5B on the 14B": ("2.1 text-to-video", 48, r"16 channels at 1/8 .* makes 48 channels at 1/16.*Wan 2\.1 VAE"),
    "of the 14B on the 5B": ("2.2 text-and-image 5B", 16, r"48 channels at 1/16 .* makes 16 .* at 1/8.*Wan 2\.2 VAE"),
    "of a picture model": ("2.1 text-to-video", 4, r"16 channels at 1/8 .* makes 4 channels at 1/8"),
}


@pytest.mark.parametrize("case", VAES)
def test_the_vae_of_another_model_is_refused_before_it_encodes(case: str, lesson: Callable[..., Any]):
    name, channels, words = VAES[case]
    vae = PoolingVAE(channels)
    with pytest.raises(ValueError, match=rf"VAE belongs to another model.*{words}"):
        lesson(build(FAMILY[name]), vae)
    assert not vae.encoded


def test_the_vae_of_a_model_for_pictures_is_refused(lesson: Callable[..., Any]):
    """Flux's has Wan's 16 channels, for single pictures."""
    vae = PoolingVAE(16)
    vae.latent_dim = 2
    with pytest.raises(ValueError, match=r"VAE is one for pictures"):
        lesson(build(FAMILY["2.1 text-to-video"]), vae)


@pytest.mark.parametrize(("name", "multiple"), [("2.1 text-to-video", 16), ("2.2 text-and-image 5B", 32)])
def test_sizes_are_whole_tokens_of_the_model(name: str, multiple: int, lesson: Callable[..., Any]):
    """Odd sizes come out as multiples of the VAE's scale times the model's patch, also where pictures are tiny."""
    vae = PoolingVAE(FAMILY[name].channels)
    for height, width in ((100, 75), (10, 200), (7, 7)):
        pictures = [torch.rand(1, height, width, 3)]
        made = lesson(build(FAMILY[name]), vae, picture=True, images=pictures)
        sides = made._items[0].pieces[0].shape[-2:]
        assert all(side % multiple == 0 and side > 0 for side in sides)
