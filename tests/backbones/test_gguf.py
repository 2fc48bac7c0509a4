"""GGUF files, as the pack ComfyUI-GGUF holds them: concepts work on them, while sampling and while learning.

Its classes are played here by what others can see of them: a tensor of packed bytes that calls itself by the shape of
what is packed and answers `clone` and `detach` with itself, and layers that unpack it for each use.
"""

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
from tests.backbones.scenes import adapters
from tests.backbones.test_own_weights import gradients, learning

CPU = torch.device("cpu")
SCALE_BYTES = 4


class Packed(torch.Tensor):
    """`tensor_type` None: floats as they are. Else 8-bit rows, each with its scale behind it."""

    tensor_type: str | None
    tensor_shape: torch.Size

    def __new__(cls, data: Tensor, *, tensor_type: str | None, tensor_shape: torch.Size) -> Packed:
        return super().__new__(cls, data)  # type: ignore[call-arg]

    def __init__(self, data: Tensor, *, tensor_type: str | None, tensor_shape: torch.Size) -> None:
        super().__init__()
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        moved: Any = super().to(*args, **kwargs)
        moved.tensor_type = getattr(self, "tensor_type", None)
        moved.tensor_shape = getattr(self, "tensor_shape", moved.data.shape)
        return moved

    def clone(self, *_: Any, **__: Any) -> Tensor:
        return self

    def detach(self, *_: Any, **__: Any) -> Tensor:
        return self

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return getattr(self, "tensor_shape", self.size())


def packed(weight: Tensor, eight_bits: bool) -> Packed:
    if not eight_bits:
        return Packed(weight.clone(), tensor_type=None, tensor_shape=weight.shape)
    scale = weight.abs().amax(1, keepdim=True) / 127
    rows = torch.cat([(weight / scale).round().to(torch.int8).view(torch.uint8), scale.view(torch.uint8)], 1)
    return Packed(rows, tensor_type="8 bits", tensor_shape=weight.shape)


def unpacked(tensor: Tensor) -> Tensor:
    if getattr(tensor, "tensor_type", None) is not None:
        rows = tensor.as_subclass(torch.Tensor)
        scale = rows[:, -SCALE_BYTES:].contiguous().view(torch.float32)
        return rows[:, :-SCALE_BYTES].contiguous().view(torch.int8).float() * scale
    return tensor.as_subclass(torch.Tensor)


def layers_of_packed() -> Any:
    """Layer classes for ComfyUI's models, over its own `manual_cast`."""
    import comfy.ops

    class Layer:
        comfy_cast_weights = True

        def forward_comfy_cast_weights(self: Any, input: Tensor) -> Tensor:
            if self.weight.tensor_type is None:
                out = super().forward_comfy_cast_weights(input)  # type: ignore[misc]
                return out.as_subclass(torch.Tensor)
            bias = None if self.bias is None else unpacked(self.bias.to(input.device)).to(input.dtype)
            return nn.functional.linear(input, unpacked(self.weight.to(input.device)).to(input.dtype), bias)

    class Ops(comfy.ops.manual_cast):
        class Linear(Layer, comfy.ops.manual_cast.Linear):
            def __init__(self, in_features: int, out_features: int, bias: bool = True, device=None, dtype=None) -> None:
                nn.Module.__init__(self)
                self.in_features, self.out_features = in_features, out_features
                self.weight = self.bias = None  # type: ignore[assignment]

    return Ops


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
