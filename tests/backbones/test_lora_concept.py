"""An imported LoRA against ComfyUI's own loader: the same weights, the same prediction, and at home in the method."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone, LinearSite
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.backbones.file_names import diffusers_names
from ccvd_core.backbones.wan_sites import diffusers_name
from ccvd_core.concepts.concept import Concept, LowRank
from ccvd_core.concepts.file import load_concept, save_concept
from ccvd_core.concepts.lora_export import write_lora
from ccvd_core.concepts.lora_file import read_lora
from ccvd_core.concepts.peft_folder import write_peft_folder
from ccvd_core.errors import CCVDError
from ccvd_core.learning.retention import remember_all
from ccvd_core.prompts.aggregate import aggregate
from ccvd_core.prompts.aggregation import AggregationSettings
from ccvd_core.prompts.lora_concept import lora_concept, read_adapters
from ccvd_core.regions.region import RegionSet
from ccvd_core.regions.regional_prompt import predict_prompts
from ccvd_core.regions.scene import aggregate_scene
from tests.backbones.conftest import encode_text
from tests.backbones.scenes import region
from tests.backbones.test_outsiders import CPU, TOLERANCE, NativeBase, keys_of

WORDS = "zxc dog"


def site_name(site: LinearSite) -> str:
    return f"diffusion_model.{site.id}"


def underscored(site: LinearSite) -> str:
    return "lora_unet_" + site.names[0].replace(".", "_")


STYLES: dict[str, tuple[Callable[[LinearSite], str], str, str]] = {
    "diffusion_model": (site_name, "lora_A", "lora_B"),
    "lora_down": (site_name, "lora_down", "lora_up"),
    "musubi-tuner": (underscored, "lora_down", "lora_up"),
    "two underscores": (lambda site: "lora_unet__" + site.id.replace(".", "_"), "lora_down", "lora_up"),
}
"""Keys that ComfyUI's loader knows for this model."""


def adapters(backbone: Backbone, seed: int = 5) -> dict[str, LowRank]:
    """On every Linear: self-attention, cross-attention and feed-forward, ranks and scales all different."""
    generator = torch.Generator().manual_seed(seed)
    return {
        site.id: LowRank(
            torch.randn(2 + number % 3, site.in_features, generator=generator) / site.in_features**0.5,
            torch.randn(site.out_features, 2 + number % 3, generator=generator) * 0.2,
            (0.5, 1.0, 2.0, 0.3)[number % 4],
        )
        for number, site in enumerate(backbone.sites)
    }


def lora_file(path: Path, backbone: Backbone, style: str = "musubi-tuner") -> Path:
    name, down, up = STYLES[style]
    tensors = {}
    for site in backbone.sites:
        adapter = adapters(backbone)[site.id]
        tensors[f"{name(site)}.{down}.weight"] = adapter.a
        tensors[f"{name(site)}.{up}.weight"] = adapter.b
        tensors[f"{name(site)}.alpha"] = torch.tensor(adapter.scale * adapter.rank)
    save_file(tensors, path)
    return path


@pytest.fixture
def file(tmp_path: Path, backbones: dict[str, Backbone], request: pytest.FixtureRequest) -> Path:
    """A LoRA of the test's model."""
    model = request.getfixturevalue("backbone") if "backbone" in request.fixturenames else backbones["comfy"]
    return lora_file(tmp_path / "zxc.safetensors", model)


def imported(path: Path, backbone: Backbone, name: str = "rex") -> Concept:
    return lora_concept(name, WORDS, read_adapters(path, backbone), backbone)


def with_stock_loader(backbone: Backbone, path: Path, text: str, case: Any) -> tuple[Tensor, set[str]]:
    """What the node LoraLoaderModelOnly does at strength 1, and then the model's answer; and the Linears it patched."""
    import comfy.sd
    import comfy.utils
    from comfy.model_patcher import ModelPatcher

    assert isinstance(backbone, ComfyWanBackbone)
    base = copy.deepcopy(backbone._model)
    patcher = ModelPatcher(NativeBase(base), CPU, CPU)
    lora, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0, lora_metadata=metadata)
    patched.patch_model(device_to=CPU)
    twin = ComfyWanBackbone(base, backbone.encode)
    prompts = [aggregate(twin, text, []).prompt] * len(case.latents)
    with torch.no_grad():
        answer = predict_prompts(twin, case.latents, case.t, prompts)
    keys = set(patched.patches)
    patched.unpatch_model(device_to=CPU)
    return answer, keys


def with_concept(backbone: Backbone, concept: Concept, text: str, case: Any, own_rows_only: bool = False) -> Tensor:
    prompt = aggregate(backbone, text, [concept], own_rows_only=own_rows_only).prompt
    prompts = [prompt] * len(case.latents)
    with torch.no_grad(), Attachment(backbone, [concept.adapters]) as attachment, attachment.activate(prompts, CPU):
        return predict_prompts(backbone, case.latents, case.t, prompts)


@pytest.mark.parametrize("style", STYLES)
def test_with_all_gates_open_it_predicts_what_comfyuis_loader_predicts(
    style: str, backbones: dict[str, Backbone], tmp_path: Path, case: Any
) -> None:
    backbone = backbones["comfy"]
    path = lora_file(tmp_path / "zxc.safetensors", backbone, style)
    theirs, patched = with_stock_loader(backbone, path, f"a {WORDS} runs", case)
    ours = with_concept(backbone, imported(path, backbone), "a <rex> runs", case)
    assert patched == {f"diffusion_model.{site.id}.weight" for site in backbone.sites}
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    nothing = with_concept(backbone, imported(path, backbone), f"a {WORDS} runs", case)
    assert (ours - nothing).abs().max() > 1e-2
    own_words = with_concept(backbone, imported(path, backbone), "a <rex> runs", case, own_rows_only=True)
    assert (ours - own_words).abs().max() > 1e-3


def test_every_delta_is_alpha_over_rank_b_a(file: Path, backbone: Backbone) -> None:
    concept = imported(file, backbone)
    expected = adapters(backbone)
    assert set(concept.adapters) == set(expected) == {site.id for site in backbone.sites}
    for site, adapter in concept.adapters.items():
        b, a, scale = expected[site].b, expected[site].a, expected[site].scale
        naive = torch.tensor(
            [[sum(scale * b[o, r] * a[r, i] for r in range(len(a))) for i in range(4)] for o in range(4)]
        )
        torch.testing.assert_close((adapter.b @ adapter.a)[:4, :4] * adapter.scale, naive)


def test_the_file_that_diffusers_saves_is_what_diffusers_loads(
    backbones: dict[str, Backbone], tmp_path: Path, case: Any
) -> None:
    """diffusers writes alpha only into the metadata, and ComfyUI's loader does not look there."""
    from diffusers import WanPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    backbone = backbones["diffusers"]
    assert isinstance(backbone, DiffusersWanBackbone)
    transformer = copy.deepcopy(backbone._transformer)
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["to_q", "to_k", "to_v", "to_out.0", "ffn.net.2"])
    transformer.add_adapter(config)  # type: ignore[operator]
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.05)
    state = get_peft_model_state_dict(transformer)
    WanPipeline.save_lora_weights(
        tmp_path, state, weight_name="zxc.safetensors", transformer_lora_adapter_metadata=config.to_dict()
    )
    concept = imported(tmp_path / "zxc.safetensors", backbone)
    ours = with_concept(backbone, concept, "a <rex> runs", case)
    prompts = [aggregate(backbone, f"a {WORDS} runs", []).prompt] * len(case.latents)
    with torch.no_grad():
        theirs = predict_prompts(DiffusersWanBackbone(transformer, encode_text), case.latents, case.t, prompts)
        plain = predict_prompts(backbone, case.latents, case.t, prompts)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    assert (ours - plain).abs().max() > 1e-2


def test_peft_puts_a_written_folder_on_the_diffusers_model(
    file: Path, backbones: dict[str, Backbone], tmp_path: Path, case: Any
) -> None:
    from peft import PeftModel

    backbone = backbones["diffusers"]
    assert isinstance(backbone, DiffusersWanBackbone)
    concept = imported(file, backbone)
    write_peft_folder(concept, tmp_path / "peft", diffusers_name)
    transformer = copy.deepcopy(backbone._transformer)
    merged: Any = PeftModel.from_pretrained(transformer, str(tmp_path / "peft")).merge_and_unload()
    prompts = [aggregate(backbone, f"a {WORDS} runs", []).prompt] * len(case.latents)
    with torch.no_grad():
        theirs = predict_prompts(DiffusersWanBackbone(merged, encode_text), case.latents, case.t, prompts)
    torch.testing.assert_close(with_concept(backbone, concept, "a <rex> runs", case), theirs, **TOLERANCE)
    again = read_adapters(tmp_path / "peft", backbone)
    weights = read_adapters(tmp_path / "peft" / "adapter_model.safetensors", backbone)
    for site, adapter in concept.adapters.items():
        for read in (again, weights):
            torch.testing.assert_close(read.adapters[site].b @ read.adapters[site].a, adapter.b @ adapter.a)


# Export


def test_an_export_is_taken_whole_by_comfyuis_loader(
    file: Path, backbones: dict[str, Backbone], tmp_path: Path, case: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import comfy.lora
    import comfy.lora_convert
    import comfy.utils

    backbone = backbones["comfy"]
    assert isinstance(backbone, ComfyWanBackbone)
    concept, path = imported(file, backbone), tmp_path / "export" / "rex.safetensors"
    write_lora(concept, path)
    caplog.set_level(logging.WARNING)
    theirs, _ = with_stock_loader(backbone, path, f"a {WORDS} runs", case)
    assert not caplog.messages
    torch.testing.assert_close(with_concept(backbone, concept, "a <rex> runs", case), theirs, **TOLERANCE)
    key_map = comfy.lora.model_lora_keys_unet(NativeBase(backbone._model), {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(str(path))), key_map)
    assert set().union(*(patch.loaded_keys for patch in patches.values())) == keys_of(path)
    again = read_lora(path, backbone.sites)
    for site, adapter in concept.adapters.items():
        torch.testing.assert_close(again.adapters[site].b @ again.adapters[site].a, adapter.b @ adapter.a)


# In the method


def test_the_key_is_made_of_the_trigger_words(file: Path, backbone: Backbone) -> None:
    concept = imported(file, backbone)
    context = encode_text(WORDS).context
    mean = (context[0] + context[1]) / 2
    assert concept.keys.shape == (backbone.layers, backbone.text_width)
    for key in concept.keys:
        torch.testing.assert_close(key, mean / mean.norm())
    assert concept.tokens.shape == (backbone.layers, 0, backbone.text_width) and not concept.class_keys.any()
    assert concept.kind == "lora" and concept.class_words == WORDS
    assert concept.base.matches(backbone.fingerprint)


def test_without_its_name_the_base_model_answers_alone(file: Path, backbone: Backbone, case: Any) -> None:
    concept = imported(file, backbone)
    aggregated = aggregate(backbone, f"a {WORDS} runs", [concept])
    assert aggregated.prompt.is_plain
    named = aggregate(backbone, "a <rex> runs", [concept])
    assert torch.equal(named.weights, torch.ones(backbone.layers, 1))
    assert torch.equal(named.prompt.context, encode_text(f"a {WORDS} runs").context)
    assert named.prompt.gates[:, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("pinned", [True, False])
def test_with_all_participants_its_plain_trigger_words_call_it(pinned: bool, file: Path, backbone: Backbone) -> None:
    concept, settings = imported(file, backbone), AggregationSettings(participants="all", pinned=pinned)
    called = aggregate(backbone, f"a {WORDS} runs", [concept], settings).relevances
    elsewhere = aggregate(backbone, "green grass", [concept], settings).relevances
    assert (called > elsewhere + 0.15).all()


def test_beside_a_learned_concept_each_keeps_to_its_own_words(file: Path, backbone: Backbone) -> None:
    keys = torch.nn.functional.normalize(encode_text("cat").context[:1], dim=-1).repeat(backbone.layers, 1)
    tokens = torch.ones(backbone.layers, 1, backbone.text_width)
    kit = Concept("kit", "subject", "cat", {}, tokens, keys, keys, backbone.fingerprint)
    both = aggregate(backbone, "<kit> and <rex>", [kit, imported(file, backbone)]).prompt
    assert [tokens.rows for tokens in both.placed] == [(0,), (2, 3)]
    assert not both.placed[1].values.any() and both.placed[0].values.all()
    assert both.gates.T.tolist() == [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]]
    assert torch.equal(both.weights, torch.ones(backbone.layers, 2))


@pytest.mark.parametrize("reading", ["together", "alone"])
def test_a_region_has_it_and_the_rest_does_not(reading: Any, file: Path, backbone: Backbone) -> None:
    concept = imported(file, backbone)
    left = region(0, 0, 0.34, 1)
    regions = RegionSet(64, 64, (type(left)("", "a <rex> runs", "#ffffff", 0.5, left.keyframes),))
    scene = aggregate_scene(backbone, "green grass", regions, [concept], reading=reading)
    outside, inside = scene.prompt.prompts
    assert not outside.weights.any() and not outside.placed
    assert torch.equal(inside.weights, torch.full((backbone.layers, 1), 0.5))
    assert inside.gates[:, 0].sum() == 2 and len(inside.placed[0].rows) == 2


def test_later_concepts_are_kept_apart_from_it(file: Path, backbone: Backbone) -> None:
    """Retention: it has a subspace on the Linears of subjects and of motions alike."""
    concept = imported(file, backbone)
    retention = remember_all("subspace", [{site: adapter.b for site, adapter in concept.adapters.items()}])
    for kind in ("subject", "motion"):
        own = {site: concept.adapters[site].b for site in backbone.site_ids(kind)}
        assert retention.loss(own) > 0.5


def test_it_survives_its_file(file: Path, backbone: Backbone, case: Any, tmp_path: Path) -> None:
    concept = imported(file, backbone)
    save_concept(concept, tmp_path / "rex.safetensors")
    read = load_concept(tmp_path / "rex.safetensors")
    assert torch.equal(
        with_concept(backbone, read, "a <rex> runs", case), with_concept(backbone, concept, "a <rex> runs", case)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("  ", "trigger words of <rex> are missing"),
        ("x" * 501, "at most 500 characters"),
        ("one two three four five six seven eight nine", "not found in what the text encoder reads"),
    ],
)
def test_trigger_words_that_cannot_be_read_are_refused(
    words: str, message: str, file: Path, backbone: Backbone
) -> None:
    with pytest.raises(CCVDError, match=message):
        lora_concept("rex", words, read_adapters(file, backbone), backbone)


def test_diffusers_names_are_those_of_the_model(backbones: dict[str, Backbone]) -> None:
    model = backbones["diffusers"]
    assert isinstance(model, DiffusersWanBackbone)
    for site in model.sites:
        assert site.module is model._transformer.get_submodule(diffusers_name(site.id))
        assert site.names == (site.id, diffusers_name(site.id))
    assert diffusers_name("text_embedding.0") == "text_embedding.0"
    assert diffusers_names(model.fingerprint)("blocks.0.cross_attn.k") == "blocks.0.attn2.to_k"
    with pytest.raises(CCVDError, match=r"of the kind 'other' cannot be written for diffusers: expected one of wan"):
        diffusers_names(replace(model.fingerprint, architecture="other-2x64"))


def test_an_image_to_video_loras_own_layers_are_told(file: Path, backbone: Backbone, tmp_path: Path) -> None:
    """Keys and values of the start picture: more than a tenth of the change is refused, with the share."""
    from safetensors.torch import load_file

    tensors = load_file(file)
    for layer in range(backbone.layers):
        for part in ("k_img", "v_img"):
            name = f"lora_unet_blocks_{layer}_cross_attn_{part}"
            tensors[f"{name}.lora_down.weight"] = torch.ones(1, 64)
            tensors[f"{name}.lora_up.weight"] = torch.ones(64, 1)
    save_file(tensors, tmp_path / "i2v.safetensors", {"ss_base": json.dumps("x")})
    with pytest.raises(CCVDError, match=r"% of its change sits in [0-9]+ layers that concepts do not adapt.*k_img"):
        read_adapters(tmp_path / "i2v.safetensors", backbone)
