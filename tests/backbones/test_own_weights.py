"""Learning on weights that are not on the device: the gradients are those of the weights themselves.

ComfyUI copies an offloaded weight into one of two buffers for each use. Both of its loaders are played here on the CPU:
the classic one by its own code, with a second name of the CPU as the other device, the dynamic one by what it does to
memory, since it needs a GPU.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.learning.example import Example
from ccvd_core.learning.learner import ConceptLearner
from ccvd_core.learning.step import LearningSettings
from tests.backbones.conftest import HEAD_WIDTH, HEADS, TEXT_WIDTH
from tests.backbones.pack import from_pack

LAYERS = 12
CPU = torch.device("cpu")


class Stream:
    """One of the two that carry weights to a device in turn."""

    def as_context(self, _: Any) -> Any:
        return contextlib.nullcontext()

    def wait_stream(self, _: Any) -> None: ...

    def synchronize(self) -> None: ...


class Offloaded(nn.Parameter):
    """A parameter that says it is on another device than the input."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cpu", 0)


@pytest.fixture
def model(backbones: dict[str, Backbone]) -> nn.Module:
    import comfy.ops
    from comfy.ldm.wan.model import WanModel

    torch.manual_seed(3)
    model = WanModel(
        dim=HEADS * HEAD_WIDTH,
        ffn_dim=96,
        freq_dim=32,
        text_dim=TEXT_WIDTH,
        in_dim=4,
        out_dim=4,
        num_heads=HEADS,
        num_layers=LAYERS,
        operations=comfy.ops.manual_cast,
        dtype=torch.float32,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return model.requires_grad_(False)


def casting(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "comfy_cast_weights") and hasattr(module, "weight")]


@pytest.fixture
def classic(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.model_management as memory

    streams = [Stream(), Stream()]

    def next_stream(_: Any) -> Stream:
        streams.reverse()
        return streams[0]

    monkeypatch.setattr(memory, "get_offload_stream", next_stream)
    monkeypatch.setattr(memory, "STREAM_CAST_BUFFERS", {})
    monkeypatch.setattr(memory, "LARGEST_CASTED_WEIGHT", (None, 0))
    for module in casting(model):
        for name, parameter in list(module.named_parameters(recurse=False)):
            module._parameters[name] = Offloaded(parameter.data, requires_grad=False)


@pytest.fixture
def dynamic(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights arrive in two buffers by copies that autograd does not notice, then the layer's functions see them."""
    import comfy.ops

    buffers = [torch.zeros(2**16) for _ in range(2)]

    def cast(module: Any, input: Tensor | None = None, *_: Any, offloadable: bool = False, **__: Any) -> Any:
        buffers.reverse()
        views, used = [], 0
        for name in ("weight", "bias"):
            part = getattr(module, name)
            if part is None:
                views.append(None)
                continue
            view = buffers[0][used : used + part.numel()].view(part.shape)
            view.data.copy_(part)  # another version counter than the view's
            used += part.numel()
            for function in getattr(module, name + "_function", []):
                view = function(view)
            views.append(view)
        return (*views, None) if offloadable else tuple(views)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast)
    for module in casting(model):
        module._v = object()


def gradients(model: nn.Module, backbones: dict[str, Backbone], own: bool) -> Tensor:
    """Of all that a subject learns, after one step, one direction."""
    backbone = ComfyWanBackbone(model, backbones["comfy"].encode)
    example = Example(torch.randn(4, 3, 4, 6, generator=torch.Generator().manual_seed(5)), "a <rex> runs")
    student = ConceptLearner(
        backbone, [example], "rex", "subject", "dog", LearningSettings(steps=4, rank=2, still_frames=1)
    )
    found: list[Tensor] = []
    trained, keep = student._trained, student._trained.update
    with torch.no_grad():
        for _, b in trained.adapters.values():
            b.normal_(std=0.1, generator=torch.Generator().manual_seed(1))

    def collect(total: Tensor, done: int) -> None:
        found.extend(gradient.flatten().clone() for gradient in trained.gradients())
        keep(total, done)

    trained.update = collect  # type: ignore[method-assign]
    lends = from_pack("nodes.host.own_weights").own_weights(model) if own else contextlib.nullcontext()
    with lends, Attachment(backbone, [student.live_adapters()]) as attachment, backbone.checkpointing():
        student.step(attachment)
    return torch.cat(found)


@pytest.fixture
def true(model: nn.Module, backbones: dict[str, Backbone], training: None) -> Tensor:
    """Gradients with every weight in its place. Asked for before a loader is played."""
    return gradients(model, backbones, own=False)


@pytest.mark.parametrize("loader", ["classic", "dynamic"])
def test_gradients_are_those_of_the_weights(
    model: nn.Module, backbones: dict[str, Backbone], true: Tensor, loader: str, request: pytest.FixtureRequest
):
    request.getfixturevalue(loader)
    ours = gradients(model, backbones, own=True)
    assert torch.cosine_similarity(ours, true, dim=0) > 0.9999
    torch.testing.assert_close(ours, true, atol=1e-7, rtol=1e-3)


def test_on_loan_they_are_not(
    model: nn.Module, backbones: dict[str, Backbone], true: Tensor, request: pytest.FixtureRequest
):
    """What is played here is what happens: without our part, an error with one loader, wrong numbers with the other."""
    request.getfixturevalue("classic")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(model, backbones, own=False)
    for module in casting(model):
        for name, parameter in list(module.named_parameters(recurse=False)):
            module._parameters[name] = nn.Parameter(parameter.data, requires_grad=False)
    request.getfixturevalue("dynamic")
    assert torch.cosine_similarity(gradients(model, backbones, own=False), true, dim=0) < 0.99


def test_layers_are_left_as_they_were(model: nn.Module, backbones: dict[str, Backbone], training: None, dynamic: None):
    own_weights = from_pack("nodes.host.own_weights").own_weights
    kept = model.blocks[0].self_attn.q
    mine: list[Callable[[Tensor], Tensor]] = [lambda weight: weight]
    kept.weight_function = mine
    before = {name: {*vars(module)} for name, module in model.named_modules()}
    gradients(model, backbones, own=True)
    for before_ours in (True, False):
        with own_weights(model):
            handle = model.blocks[0].ffn[0].register_forward_pre_hook(lambda *_: 1 / 0, prepend=before_ours)
            with pytest.raises(ZeroDivisionError):
                model(torch.zeros(1, 4, 3, 4, 6), torch.ones(1), context=torch.zeros(1, 8, TEXT_WIDTH))
            handle.remove()
    assert {name: {*vars(module)} for name, module in model.named_modules()} == before
    assert kept.weight_function is mine and len(mine) == 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("loader", ["classic", "dynamic", None])
def test_after_sampling_in_inference_mode(
    model: nn.Module,
    backbones: dict[str, Backbone],
    true: Tensor,
    loader: str | None,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
):
    """Weights and buffers that were made while sampling are inference tensors: autograd refuses them."""
    if loader is not None:
        request.getfixturevalue(loader)
    with torch.inference_mode():
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                module._parameters[name] = type(parameter)(parameter.clone(), requires_grad=False)
        model(torch.zeros(1, 4, 3, 4, 6), torch.ones(1), context=torch.zeros(1, 8, TEXT_WIDTH))
    with learning(model, monkeypatch):
        assert not any(parameter.is_inference() for block in model.blocks for parameter in [block.modulation])
        ours = gradients(model, backbones, own=False)  # own weights are a part of the training mode
    assert torch.cosine_similarity(ours, true, dim=0) > 0.9999


@contextlib.contextmanager
def learning(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The node's training mode, with a MODEL that is loaded already."""
    import comfy.model_management as memory

    patcher: Any = types.SimpleNamespace(
        model=types.SimpleNamespace(diffusion_model=model, get_dtype_inference=lambda: torch.float32),
        load_device=CPU,
        add_callback_with_key=lambda *_: None,
        remove_callbacks_with_key=lambda *_: None,
    )
    monkeypatch.setattr(memory, "load_models_gpu", lambda *_, **__: None)
    with torch.inference_mode(), from_pack("nodes.host.training").training_mode(patcher, 0):
        yield
