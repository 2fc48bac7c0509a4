"""What adapters cost in memory: nothing of an output's size while sampling, and nothing shared is written into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ccvd_core.attaching.attachment import Attachment
from ccvd_core.backbones.base import Backbone, LinearSite
from ccvd_core.prompts.concept_prompt import ConceptPrompt
from tests.backbones.scenes import adapters

CPU = torch.device("cpu")


class Made(TorchDispatchMode):
    """Counts the tensors of at least `numel` values that are made, by the memory they are in."""

    def __init__(self, numel: int) -> None:
        super().__init__()
        self._numel, self.kept, self.memory = numel, [], set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() >= self._numel:
            self.kept.append(result)  # so that its memory is not used twice
            self.memory.add(result.untyped_storage().data_ptr())
        return result


@pytest.fixture
def site(backbone: Backbone) -> LinearSite:
    """The feed-forward's first Linear: the largest output of a block, and here larger than its weight."""
    return max((site for site in backbone.sites if site.rows != "b text"), key=lambda site: site.out_features)


@pytest.fixture
def x(site: LinearSite) -> Tensor:
    return torch.randn(2, 180, site.in_features, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def active(backbone: Backbone, make_prompt: Callable[..., ConceptPrompt]) -> Any:
    prompt = make_prompt("a dog runs", (1.0,))
    with Attachment(backbone, [adapters(backbone, 1)]) as attachment, attachment.activate([prompt, None], CPU):
        yield attachment


def expected(backbone: Backbone, site: LinearSite, x: Tensor) -> Tensor:
    """Row 0 with the concept, row 1 without."""
    lora = adapters(backbone, 1)[site.id]
    plain = torch.nn.functional.linear(x, site.module.weight, site.module.bias)
    return plain + torch.stack([x[0] @ lora.a.T @ lora.b.T, torch.zeros_like(plain[1])])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_delta_takes_no_memory_of_its_own(backbone: Backbone, site: LinearSite, x: Tensor, active: Any, mode: Any):
    with mode():
        right = expected(backbone, site, x)
        with Made(right.numel()) as made:
            output = site.module(x)
    torch.testing.assert_close(output, right, atol=1e-5, rtol=1e-5)
    assert len(made.memory) == 1, "the Linear's own output and nothing beside it"


def test_gradients_are_not_lost(backbone: Backbone, site: LinearSite, x: Tensor, active: Any):
    x.requires_grad_()
    output = site.module(x)
    torch.testing.assert_close(output, expected(backbone, site, x), atol=1e-5, rtol=1e-5)
    (ours,) = torch.autograd.grad(output.square().sum(), x)
    (right,) = torch.autograd.grad(expected(backbone, site, x).square().sum(), x)
    torch.testing.assert_close(ours, right, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_another_hook_keeps_is_not_written_into(backbone: Backbone, site: LinearSite, x: Tensor, active: Any):
    plain = torch.nn.functional.linear(x, site.module.weight, site.module.bias)
    seen: list[Tensor] = []
    handle = site.module.register_forward_hook(lambda _, __, output: seen.append(output), prepend=True)
    try:
        output = site.module(x)
    finally:
        handle.remove()
    torch.testing.assert_close(output, expected(backbone, site, x), atol=1e-5, rtol=1e-5)
    assert torch.equal(seen[0], plain)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["kept", "one value", "expanded", "part"])
def test_what_a_replaced_forward_shares_is_not_written_into(
    backbone: Backbone, site: LinearSite, x: Tensor, active: Any, kind: str
):
    plain = torch.nn.functional.linear(x, site.module.weight, site.module.bias)
    whole = torch.cat([plain, plain], -1)
    shared = {
        "kept": plain,
        "one value": x.new_zeros(()).expand_as(plain),
        "expanded": plain[:1, :1].expand_as(plain),
        "part": whole[..., : plain.shape[-1]],
    }[kind]
    before, mark = shared.clone(), site.module.forward
    try:
        site.module.forward = lambda _: shared  # type: ignore[method-assign]
        output = site.module(x)
    finally:
        site.module.forward = mark  # type: ignore[method-assign]
    assert torch.equal(shared, before)
    assert not torch.equal(output[0], before[0]) and torch.equal(output[1], before[1])
