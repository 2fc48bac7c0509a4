"""A MODEL's backbone by what the model is, and an error that says what can be connected when it is none of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ccvd_core.backbones.base import Backbone
from tests.backbones.pack import from_pack
from tests.backbones.wan_family import FAMILY, build

LEARNS = next(member for member in FAMILY.values() if member.learns)


@pytest.fixture
def host(backbones: dict[str, Backbone]) -> Any:
    return from_pack("nodes.host.backbone")


def model_of(inner: nn.Module, kind: str = "BaseModel") -> Any:
    """A MODEL as far as its family is concerned."""
    base = type(kind, (), {"diffusion_model": inner, "get_dtype_inference": lambda self: torch.bfloat16})()
    return SimpleNamespace(model=base)


def other_video_model() -> nn.Module:
    """A transformer with blocks and a text embedding like Wan's, and cross-attention like a UNet's."""
    model = nn.Module()
    model.text_embedding = nn.Linear(4, 4)
    block = nn.Module()
    block.attn2 = nn.Linear(4, 4)
    model.blocks = nn.ModuleList([block])
    return model


def test_a_backbone_computes_in_the_number_type_of_its_model(host: Any):
    model = build(LEARNS)
    backbone = host.backbone_of(model, host.no_text)
    assert type(backbone).__name__ == "ComfyWanBackbone"
    assert backbone.dtype == model.model.get_dtype_inference()
    half = host.backbone_of(model_of(model.model.diffusion_model), host.no_text)
    assert half.dtype == torch.bfloat16


def test_compiled_models_are_recognised(host: Any):
    compiled = torch.compile(build(LEARNS).model.diffusion_model, backend="eager")
    assert host.family_of(model_of(compiled)) is host.FAMILIES[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("inner", [nn.Linear(2, 2), other_video_model()], ids=["picture model", "video model"])
def test_a_model_of_no_family_is_refused_with_what_can_be_connected(host: Any, inner: nn.Module):
    with pytest.raises(
        ValueError, match=rf"of the kind Flux \({type(inner).__name__}\)\. Connect one of these: "
    ) as told:
        host.backbone_of(model_of(inner, "Flux"), host.no_text)
    assert all(family.title in str(told.value) for family in host.FAMILIES)


def test_every_model_belongs_to_one_family(host: Any):
    """Or the order of the rows would decide."""
    inner = build(LEARNS).model.diffusion_model
    assert len([family for family in host.FAMILIES if family.has(inner)]) == 1


def test_a_family_needs_something_to_be_told_by(host: Any):
    with pytest.raises(ValueError, match="no parts to tell it by"):
        host.ModelFamily("Any model", (), None, None, None)


def test_a_lesson_counts_the_weights_of_the_largest_recomputed_part(host: Any):
    """Whatever the parts are called: a model without `blocks` has parts too."""
    training = from_pack("nodes.host.training")
    parts = [nn.Linear(3, 4), nn.Linear(5, 6), nn.Linear(2, 2)]
    backbone = SimpleNamespace(recomputed=lambda: parts, dtype=torch.bfloat16)
    assert training.largest_weights(backbone) == (5 * 6 + 6) * 2


def test_a_text_encoder_of_another_model_is_refused(host: Any):
    reader, encoder = from_pack("nodes.host.text_encoder").PromptReader, host.FAMILIES[0].encoder
    clip = SimpleNamespace(tokenizer=SimpleNamespace(clip_l=object()))
    with pytest.raises(ValueError, match=r"needs Wan's text encoder \(UMT5\) for this model\. Connect Load CLIP"):
        reader(clip, encoder)
