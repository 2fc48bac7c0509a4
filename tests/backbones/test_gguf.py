"""GGUF files, as the pack ComfyUI-GGUF holds them: concepts work on them, while sampling and while learning."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.conftest import HEAD_WIDTH, HEADS, LAYERS, TEXT_WIDTH
from tests.backbones.gguf_layers import Packed, layers_of_packed, packed, unpacked
from tests.backbones.scenes import adapters
from tests.backbones.test_own_weights import gradients, learning

CPU = torch.device("cpu")


def wan(operations: Any) -> Any:
    from comfy.ldm.wan.model import WanModel

    return WanModel(
        dim=HEADS * HEAD_WIDTH,
        ffn_dim=96,
        freq_dim=32,
        text_dim=TEXT_WIDTH,
        in_dim=4,
        out_dim=4,
        num_heads=HEADS,
        num_layers=LAYERS,
        operations=operations,
        dtype=torch.float32,
    ).eval()


@pytest.fixture(params=["loaded while sampling", "loaded by itself"])
def models(request: pytest.FixtureRequest, backbones: dict[str, Backbone]) -> tuple[Any, Any]:
    """A model of packed weights, and the same with what they unpack to."""
    import comfy.ops

    torch.manual_seed(3)
    plain = wan(comfy.ops.disable_weight_init).requires_grad_(False)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.08)
    gguf = wan(layers_of_packed()).requires_grad_(False)
    # The executor runs loaders in inference mode.
    with torch.inference_mode(request.param == "loaded while sampling"):
        for name, module in gguf.named_modules():
            source = plain.get_submodule(name)
            for key, value in source.named_parameters(recurse=False):
                # As their files are made: matrices in blocks, all else, and the first layer here, in full precision.
                eight_bits = value.ndim == 2 and isinstance(module, nn.Linear) and not name.startswith("blocks.0.ffn")
                made = packed(value.data, eight_bits)
                setattr(module, key, nn.Parameter(made, requires_grad=False))
                value.data.copy_(unpacked(made).clone())
    return gguf, plain


def test_concepts_act_while_sampling(models: tuple[Any, Any], backbones: dict[str, Backbone], case, make_prompt):
    plain, named = make_prompt("a dog runs"), make_prompt("a dog runs", (1.0,))
    results = []
    for model in models:
        backbone = ComfyWanBackbone(model, backbones["comfy"].encode)
        with torch.inference_mode():
            base = predict_prompts(backbone, case.latents, case.t, [plain, plain]).as_subclass(Tensor)
            with Attachment(backbone, [adapters(backbone, 3)]) as attachment, attachment.activate([named, None], CPU):
                # Norms with packed weights pass their kind of tensor on.
                results.append(predict_prompts(backbone, case.latents, case.t, [named, plain]).as_subclass(Tensor))
        assert (results[-1] - base)[0].abs().max() > 1e-2
        torch.testing.assert_close(results[-1][1], base[1])
        assert not any(module._forward_hooks or "forward" in vars(module) for module in model.modules())
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


def test_a_file_of_one_model_is_recognised_in_both_forms(models: tuple[Any, Any], backbones: dict[str, Backbone]):
    gguf, plain = (ComfyWanBackbone(model, backbones["comfy"].encode) for model in models)
    assert gguf.fingerprint == plain.fingerprint


def test_gradients_while_learning(
    models: tuple[Any, Any], backbones: dict[str, Backbone], training: None, monkeypatch: pytest.MonkeyPatch
):
    gguf, plain = models
    bits = {name: (copy.copy(vars(p)), p.as_subclass(Tensor).numpy().copy()) for name, p in gguf.named_parameters()}
    true = gradients(plain, backbones, own=False)
    with learning(gguf, monkeypatch):
        ours = gradients(gguf, backbones, own=False)
    assert torch.cosine_similarity(ours, true, dim=0) > 0.9999
    torch.testing.assert_close(ours, true, atol=1e-7, rtol=1e-3)
    for name, parameter in gguf.named_parameters():
        attributes, values = bits[name]
        assert isinstance(parameter, Packed) and parameter.tensor_type == attributes["tensor_type"]
        assert (parameter.as_subclass(Tensor).numpy() == values).all()
