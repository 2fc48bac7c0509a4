"""Compiled models use the concepts of now: the same predictions as without torch.compile, whatever was compiled before.

The compiler's own backend `eager` needs no C++ compiler. It captures, guards and reuses code as the others do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone
from ccvd_core.backbones.comfy_wan import ComfyWanBackbone
from ccvd_core.backbones.diffusers_wan import DiffusersWanBackbone
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from ccvd_core.regions.regional_prompt import predict_prompts
from tests.backbones.scenes import adapters

CPU = torch.device("cpu")
ROUNDING = {"atol": 2e-5, "rtol": 1e-4}
MakePrompt = Callable[..., ConceptPrompt]


pytestmark = pytest.mark.usefixtures("fresh_compiler")


def whole(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def stock_node(model: Any) -> Any:
    """As ComfyUI's node compiles: without guards on transformer_options."""
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    return torch.compile(model, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})


def in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def by_block(model: Any) -> Any:
    """As popular packs compile Wan: every block by itself."""
    for number, block in enumerate(model.blocks):
        model.blocks[number] = torch.compile(block, backend="eager")
    return model


TRANSFORMERS = pytest.mark.parametrize("backbone", ["diffusers", "comfy"], indirect=True)
"""A 3D UNet is not compiled here: its parts cannot be cut down to a few blocks."""


def of(backbone: Backbone, compiled: Callable[[Any], Any] = lambda model: model, layers: int = 1) -> Backbone:
    """A copy of the tiny model with fewer layers, compiled. The backbone's parts are looked up before compilation."""
    model = copy.deepcopy(root(backbone))
    model.blocks = model.blocks[:layers]
    if isinstance(backbone, ComfyWanBackbone):
        twin: Any = ComfyWanBackbone(model, backbone.encode)
        twin._model = compiled(model)
    else:
        twin = DiffusersWanBackbone(model, backbone.encode)
        twin._transformer = compiled(model)
    return twin


def root(backbone: Backbone) -> Any:
    if isinstance(backbone, ComfyWanBackbone):
        return backbone._model
    assert isinstance(backbone, DiffusersWanBackbone)
    return backbone._transformer


def shallow(prompt: ConceptPrompt, layers: int = 1) -> ConceptPrompt:
    placed = tuple(replace(tokens, values=tokens.values[:layers]) for tokens in prompt.placed)
    return replace(prompt, placed=placed, weights=prompt.weights[:layers])


def predicted(backbone: Backbone, case, prompts: list[ConceptPrompt], role: str | None) -> Tensor:
    """A prediction with concepts attached for it alone, as ComfyUI does for each run; role None: not even attached."""
    if role is None:
        with torch.no_grad():
            return predict_prompts(backbone, case.latents, case.t, prompts)
    attachment = Attachment(backbone, [adapters(backbone, 1, role)])
    with torch.no_grad(), attachment, attachment.activate(prompts, CPU):
        return predict_prompts(backbone, case.latents, case.t, prompts)


WAYS = {
    "comfy": [stock_node, by_block],
    "diffusers": [whole, in_place, by_block],
}
"""How each host's models are compiled."""


@pytest.mark.parametrize(("host", "compiled"), [(host, way) for host, ways in WAYS.items() for way in ways])
def test_concepts_come_and_go(
    backbones: dict[str, Backbone], host: str, compiled: Callable[[Any], Any], case, make_prompt: MakePrompt
):
    backbone = backbones[host]
    plain, named = shallow(make_prompt("a dog runs")), shallow(make_prompt("a dog runs", (1.0,)))
    # A motion has no words of its own in the text: its adapters alone make the difference.
    moving = shallow(make_prompt("a dog runs", (1.0,), rows=()))
    steps = [
        ([plain, plain], None),
        ([named, plain], "subject"),
        ([moving, moving], "motion"),
        ([plain, plain], None),
    ]
    twin, eager = of(backbone, compiled), of(backbone)
    base = predicted(eager, case, [plain, plain], None)
    for prompts, role in steps:
        expected = predicted(eager, case, prompts, role)
        torch.testing.assert_close(predicted(twin, case, prompts, role), expected, **ROUNDING)
        assert role is None or (expected - base).abs().max() > 1e-2


def test_concepts_are_seen_where_another_pack_has_replaced_every_linears_forward(
    backbones: dict[str, Backbone], case, make_prompt: MakePrompt
):
    """As ComfyUI's bypass LoRA does. The Linears cannot be marked then; their neighbours are."""
    plain, named = shallow(make_prompt("a dog runs")), shallow(make_prompt("a dog runs", (1.0,)))
    twin, eager = of(backbones["diffusers"]), of(backbones["diffusers"])
    for site in twin.sites:
        module: Any = site.module
        module.forward = lambda x, theirs=module.forward: theirs(x)
    by_block(root(twin))
    for prompts, role in (([plain, plain], None), ([named, plain], "motion")):
        expected = predicted(eager, case, prompts, role)
        torch.testing.assert_close(predicted(twin, case, prompts, role), expected, **ROUNDING)


@TRANSFORMERS
def test_nothing_is_compiled_again_for_what_was_seen_before(backbone: Backbone, case, make_prompt: MakePrompt):
    """Concepts are attached anew for every run: what was compiled for the first must serve for all."""
    captured: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        captured.append(graph)
        return graph.forward

    plain, named = shallow(make_prompt("a dog runs")), shallow(make_prompt("a dog runs", (1.0,)))
    twin = of(backbone, lambda model: torch.compile(model, backend=count))
    for _ in range(2):
        predicted(twin, case, [plain, plain], None)
        predicted(twin, case, [named, plain], "subject")
        predicted(twin, case, [named, plain], "motion")
    first = len(captured)
    for role in (None, "subject", "motion") * 2:
        predicted(twin, case, [named if role else plain, plain], role)
    assert len(captured) == first


def test_blocks_compiled_by_themselves_share_their_code(backbones: dict[str, Backbone], case, make_prompt: MakePrompt):
    """Wan has thirty or forty, and PyTorch gives up after eight versions of the same code."""

    captured: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        captured.append(graph)
        return graph.forward

    def each(model: Any) -> Any:
        for number, block in enumerate(model.blocks):
            model.blocks[number] = torch.compile(block, backend=count)
        return model

    twin = of(backbones["comfy"], each, layers=3)
    plain, named = make_prompt("a dog runs"), make_prompt("a dog runs", (1.0,))
    predicted(twin, case, [plain, plain], None)
    alone = len(captured)
    predicted(twin, case, [named, plain], "subject")
    assert alone < 3, "or the blocks would not even share it without concepts"
    assert len(captured) == 2 * alone


@TRANSFORMERS
def test_the_model_is_left_as_it_was(backbone: Backbone):
    before = {name: dict(vars(module)) for name, module in root(backbone).named_modules()}
    with Attachment(backbone, [adapters(backbone, 1)]):
        assert all("forward" in vars(site.module) for site in backbone.sites)
    after = {name: dict(vars(module)) for name, module in root(backbone).named_modules()}
    assert {name: kept.keys() for name, kept in before.items()} == {name: kept.keys() for name, kept in after.items()}


def test_a_forward_that_another_pack_has_replaced_stays(backbone: Backbone):
    """Before our hooks came, and while they are there."""
    early, late = backbone.sites[0].module, backbone.sites[1].module
    theirs = early.forward

    def other(x: Tensor) -> Tensor:
        return theirs(x)

    try:
        early.forward = other
        with Attachment(backbone, [adapters(backbone, 1)]):
            assert early.forward is other
            late.forward = other
        assert early.forward is other and late.forward is other
    finally:
        del early.forward, late.forward
