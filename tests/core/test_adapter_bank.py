"""Oracle: PEFT's LoRA layers, forward and gradients; and merging the weights."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ccvd_core.concepts.adapter_bank import (
    BankModule,
    add_gated_delta,
    gated_delta,
    owns_its_memory,
    stack_adapters,
    stack_banks,
)
from ccvd_core.concepts.concept import LowRank
from ccvd_core.errors import CCVDError


def adapter(rank: int, seed: int, scale: float = 1.0, width: int = 6, out: int = 5) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, width, generator=generator, dtype=torch.float64)
    b = torch.randn(out, rank, generator=generator, dtype=torch.float64)
    return LowRank(a.requires_grad_(), b.requires_grad_(), scale)


def test_forward_and_gradients_equal_peft():
    torch.manual_seed(0)
    ours = [adapter(3, 1, 2.0), adapter(2, 2, 0.5)]
    linear = nn.Linear(6, 5).double()
    model = nn.Sequential(linear)
    x = torch.randn(4, 7, 6, dtype=torch.float64)
    bank = stack_adapters(ours)
    assert bank is not None
    output = linear(x) + gated_delta(x, bank, torch.ones(5, dtype=torch.float64))
    output.square().sum().backward()

    configs = [LoraConfig(r=3, lora_alpha=6, target_modules=["0"]), LoraConfig(r=2, lora_alpha=1, target_modules=["0"])]
    reference = get_peft_model(model, configs[0], "one")
    reference.add_adapter("two", configs[1])
    reference.base_model.set_adapter(["one", "two"])
    layer = reference.base_model.model[0]
    with torch.no_grad():
        for name, low_rank in zip(("one", "two"), ours, strict=True):
            layer.lora_A[name].weight.data = low_rank.a.detach().clone()
            layer.lora_B[name].weight.data = low_rank.b.detach().clone()
    for name in ("one", "two"):
        layer.lora_A[name].weight.requires_grad_()
        layer.lora_B[name].weight.requires_grad_()
    expected = reference(x)
    expected.square().sum().backward()
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for name, low_rank in zip(("one", "two"), ours, strict=True):
        torch.testing.assert_close(low_rank.a.grad, layer.lora_A[name].weight.grad, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(low_rank.b.grad, layer.lora_B[name].weight.grad, rtol=1e-10, atol=1e-10)


def test_row_weights_equal_merging_row_by_row():
    ours = [adapter(3, 3), adapter(2, 4)]
    bank = stack_adapters(ours)
    assert bank is not None
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    weight = torch.rand(2, 5, 2, dtype=torch.float64)
    output = gated_delta(x, bank, weight[..., bank.owner])
    for batch in range(2):
        for row in range(5):
            merged = sum(weight[batch, row, j] * low.scale * low.b @ low.a for j, low in enumerate(ours))
            torch.testing.assert_close(output[batch, row], merged @ x[batch, row], rtol=1e-12, atol=1e-12)


def test_a_zero_weight_leaves_the_output_bit_identical():
    bank = stack_adapters([adapter(3, 5)])
    assert bank is not None
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    output = torch.randn(2, 5, 5, dtype=torch.float64)
    assert torch.equal(output + gated_delta(x, bank, torch.zeros(3)), output)


def test_concepts_without_an_adapter_here_keep_their_column():
    bank = stack_adapters([None, adapter(2, 6), None])
    assert bank is not None and bank.owner.tolist() == [1, 1]
    assert stack_adapters([None, None]) is None


@pytest.mark.parametrize("shapes", [((3, 6), (5, 2)), ((0, 6), (5, 0)), ((6,), (5, 1))])
def test_impossible_adapters_are_refused(shapes: tuple):
    with pytest.raises(CCVDError, match="rank"):
        LowRank(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@torch.no_grad()
def test_adding_in_place_equals_adding():
    bank = stack_adapters([adapter(3, 3), adapter(2, 4)])
    assert bank is not None
    x, gate = torch.randn(2, 7, 6, dtype=torch.float64), torch.rand(2, 7, 5, dtype=torch.float64)
    output = torch.randn(2, 7, 5, dtype=torch.float64)
    expected = output + gated_delta(x, bank, gate)
    assert add_gated_delta(output, x, bank, gate) is output
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


def test_only_an_output_of_its_own_may_be_written_into():
    x, wide = torch.randn(2, 3, 6), torch.randn(2, 3, 10)
    with torch.inference_mode():
        sampled = torch.randn(2, 3, 5)
        assert owns_its_memory(sampled, [x])
    assert not owns_its_memory(torch.randn(2, 3, 5), [x]), "a gradient may need it"
    with torch.no_grad():
        assert owns_its_memory(torch.randn(2, 3, 5), [x])
        assert owns_its_memory(torch.randn(6, 5).view(2, 3, 5), [x]), "a Linear's own output is a view of all its rows"
        assert not owns_its_memory(sampled, [x]), "not outside inference mode"
        assert not owns_its_memory(x, [x]), "the input itself"
        assert not owns_its_memory(x.view(6, 6), [x]), "the input in another shape"
        assert not owns_its_memory(wide[..., :5], [x]), "a part of something"
        assert not owns_its_memory(torch.randn(1, 1, 5).expand(2, 3, 5), [x]), "one row for all"


def test_banks_as_a_module_are_the_banks():
    one, other = adapter(3, 1, 2.0), adapter(2, 2, 0.5)
    banks = stack_banks([{"blocks.0.q": one}, {"blocks.1.q": one, "blocks.0.q": other}])
    module = BankModule(banks, torch.float32)
    found = module.to(torch.float64).banks()
    assert list(found) == ["blocks.0.q", "blocks.1.q"] and not any(p.requires_grad for p in module.parameters())
    for site, bank in banks.items():
        torch.testing.assert_close(found[site].down, bank.down.detach(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found[site].up, bank.up.detach(), rtol=1e-6, atol=1e-6)
        assert torch.equal(found[site].owner, bank.owner)
    assert found["blocks.0.q"].owner.tolist() == [0, 0, 0, 1, 1]
    assert found["blocks.1.q"].owner.tolist() == [1, 1, 1]
