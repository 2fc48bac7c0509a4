"""A concept file in other tools' hands: ComfyUI's Load LoRA and diffusers take all of it and predict what we predict.

Other tools know adapters only: the reference is our own attachment at weight 1, on every text row, without tokens.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.backbones.wan_sites import diffusers_name
from ccvd_core.concepts.concept import Concept, LowRank
from ccvd_core.concepts.file import load_concept, save_concept
from ccvd_core.concepts.kinds import Kind
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts

CPU = torch.device("cpu")
TEXT = "a dog runs"
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}
"""All is float32. Merging adds B A to the weights before the product instead of after it, and diffusers folds the scale
into A instead of B: the same sums in another order, through three blocks."""
EFFECT = 1e-2
"""The adapters must change the prediction by far more than the tolerance, or agreement would mean nothing."""


@pytest.fixture(params=["subject", "motion"])
def concept(request: pytest.FixtureRequest, backbones: dict[str, Backbone]) -> Concept:
    """Random adapters on every Linear of its kind. Ranks and scales differ between Linears, so none can be mixed up."""
    kind: Kind = request.param
    backbone = backbones["comfy"]
    generator = torch.Generator().manual_seed(11)
    adapters = {}
    for number, site in enumerate(site for site in backbone.sites if site.id in backbone.site_ids(kind)):
        rank = 2 + number % 3
        a = torch.randn(rank, site.in_features, generator=generator) / site.in_features**0.5
        b = torch.randn(site.out_features, rank, generator=generator) * 0.3
        adapters[site.id] = LowRank(a, b, (0.5, 1.0, 2.0, 0.3)[number % 4])
    tokens = torch.randn(backbone.layers, 2, backbone.text_width, generator=generator)
    keys = torch.nn.functional.normalize(tokens.mean(1), dim=-1)
    preview = bytes(range(256)) * 40
    return Concept(
        "rex", kind, "little dog", adapters, tokens, keys, keys, backbone.fingerprint, order=1, preview=preview
    )


@pytest.fixture
def path(concept: Concept, tmp_path: Path) -> Path:
    path = tmp_path / "rex.safetensors"
    save_concept(concept, path)
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Both tools only warn about keys that they leave out. diffusers keeps its warnings to itself by default."""
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    caplog.set_level(logging.WARNING)
    return caplog


def attached(backbone: Backbone, path: Path, case) -> Tensor:
    """Our own prediction, from the adapters as the file gives them back."""
    prompt = every_row(backbone)
    prompts = [prompt] * len(case.latents)
    with (
        torch.no_grad(),
        Attachment(backbone, [load_concept(path).adapters]) as attachment,
        attachment.activate(prompts, CPU),
    ):
        return predict_prompts(backbone, case.latents, case.t, prompts)


def plain(backbone: Backbone, case) -> Tensor:
    with torch.no_grad():
        return predict_prompts(backbone, case.latents, case.t, [every_row(backbone)] * len(case.latents))


def every_row(backbone: Backbone) -> ConceptPrompt:
    """One concept at weight 1 in every layer and on every text row, without tokens."""
    context = backbone.encode(TEXT).context
    return ConceptPrompt(context, (), torch.ones(backbone.layers, 1), torch.ones(len(context), 1))


def keys_of(path: Path) -> set[str]:
    with safe_open(path, "pt") as file:
        return set(file.keys())


class NativeBase(nn.Module):
    """As much of ComfyUI's `BaseModel` as its LoRA loader looks at."""

    def __init__(self, diffusion_model: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = diffusion_model
        self.model_config = type("Config", (), {"unet_config": {}})()


def test_comfyui_matches_every_key(backbones: dict[str, Backbone], concept: Concept, path: Path):
    import comfy.lora
    import comfy.lora_convert
    import comfy.utils

    native = backbones["comfy"]
    assert isinstance(native, ComfyWanBackbone)
    key_map = comfy.lora.model_lora_keys_unet(NativeBase(native._model), {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(str(path))), key_map)
    assert set(patches) == {f"diffusion_model.{site}.weight" for site in concept.adapters}
    used = set().union(*(patch.loaded_keys for patch in patches.values()))
    assert used == keys_of(path)


def test_comfyui_predicts_the_same(
    backbones: dict[str, Backbone], concept: Concept, path: Path, case, warnings: pytest.LogCaptureFixture
):
    """The calls of the node LoraLoaderModelOnly, then ComfyUI's own patching of the weights."""
    import comfy.sd
    import comfy.utils
    from comfy.model_patcher import ModelPatcher

    backbone = backbones["comfy"]
    assert isinstance(backbone, ComfyWanBackbone)
    base = copy.deepcopy(backbone._model)
    patcher = ModelPatcher(NativeBase(base), CPU, CPU)
    lora, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    lora_patcher, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0, lora_metadata=metadata)
    assert len(lora_patcher.patches) == len(concept.adapters)
    lora_patcher.patch_model(device_to=CPU)
    theirs = plain(ComfyWanBackbone(base, backbone.encode), case)
    lora_patcher.unpatch_model(device_to=CPU)

    assert not warnings.messages
    torch.testing.assert_close(theirs, attached(backbone, path, case), **TOLERANCE)
    assert (theirs - plain(backbone, case)).abs().max() > EFFECT


def test_diffusers_predicts_the_same(
    backbones: dict[str, Backbone], concept: Concept, path: Path, case, warnings: pytest.LogCaptureFixture
):
    from diffusers import WanPipeline

    backbone = backbones["diffusers"]
    assert isinstance(backbone, DiffusersWanBackbone)
    transformer = copy.deepcopy(backbone._transformer)
    twin = DiffusersWanBackbone(transformer, backbone.encode)
    pipeline = WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=None, transformer=transformer)
    pipeline.load_lora_weights(str(path), adapter_name="rex")
    theirs = plain(twin, case)

    assert not warnings.messages
    assert pipeline.get_active_adapters() == ["rex"]
    loaded = {name: module for name, module in transformer.named_modules() if "rex" in getattr(module, "lora_A", {})}
    assert loaded.keys() == {diffusers_name(site) for site in concept.adapters}
    for site, adapter in concept.adapters.items():
        module = loaded[diffusers_name(site)]
        delta = module.scaling["rex"] * module.lora_B["rex"].weight @ module.lora_A["rex"].weight
        torch.testing.assert_close(delta.detach(), adapter.scale * adapter.b @ adapter.a)
    torch.testing.assert_close(theirs, attached(backbone, path, case), **TOLERANCE)
    assert (theirs - plain(backbone, case)).abs().max() > EFFECT

    pipeline.unload_lora_weights()
    assert torch.equal(plain(twin, case), plain(backbone, case))
