import pytest
import torch
from torch.nn.functional import normalize

from ccvd_core.errors import CCVDError
from ccvd_core.learning.retention import fold, remember_all, subspace_penalty, trace_penalty


def subspaces(count: int, out: int, ranks: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(out)
    return [torch.randn(out, ranks[j % len(ranks)], generator=generator) for j in range(count)]


@pytest.mark.parametrize(("count", "out"), [(1, 12), (3, 12), (40, 12)])
def test_folded_penalty_equals_the_loop_over_concepts(count: int, out: int):
    """40 concepts of rank 2..4 exceed 12 columns, so the basis has been compressed."""
    earlier, new = subspaces(count, out, [2, 3, 4]), torch.randn(out, 3, generator=torch.Generator().manual_seed(1))
    basis = None
    for b in earlier:
        basis = fold(basis, b)
    assert basis is not None and basis.shape[1] <= out
    expected = 0.0
    r_u = normalize(new.double(), dim=0)
    for b in earlier:
        r_j = normalize(b.double(), dim=0)
        expected += float((r_j.T @ r_u).square().sum() / (b.shape[1] * 3))
    # The basis is kept in float32 and compressed at every step beyond 12 columns.
    torch.testing.assert_close(float(subspace_penalty(basis, new)), expected, rtol=1e-4, atol=1e-6)


def test_orthogonal_subspaces_cost_nothing_and_equal_ones_at_most_one():
    eye = torch.eye(8)
    assert float(subspace_penalty(fold(None, eye[:, :2]), eye[:, 2:4])) == 0
    assert float(subspace_penalty(fold(None, eye[:, :1]), eye[:, :1])) == pytest.approx(1.0, abs=1e-5)


def test_trace_is_the_printed_formula_with_an_absolute_value():
    earlier, new = subspaces(3, 10, [4]), torch.randn(10, 4, generator=torch.Generator().manual_seed(2))
    expected = sum(abs(float(torch.trace(b @ new.T))) for b in earlier)
    assert float(trace_penalty(torch.stack(earlier), new)) == pytest.approx(expected, rel=1e-5)


def test_descending_the_penalty_separates_the_subspaces():
    retention = remember_all("subspace", [{"site": subspaces(1, 16, [4])[0]}])
    new = torch.randn(16, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    before = retention.loss({"site": new}).item()
    for _ in range(200):
        loss = retention.loss({"site": new})
        (gradient,) = torch.autograd.grad(loss, new)
        new = (new - 5.0 * gradient).detach().requires_grad_()
    assert retention.loss({"site": new}).item() < 0.1 * before


def test_a_zero_b_has_a_finite_gradient():
    """LoRA starts with B = 0, where the direction of its columns is undefined."""
    retention = remember_all("subspace", [{"site": torch.randn(6, 2)}])
    b = torch.zeros(6, 2, requires_grad=True)
    retention.loss({"site": b}).backward()
    assert b.grad is not None and (b.grad.abs() < 1).all()


def test_trace_refuses_other_ranks_and_unknown_forms_are_refused():
    with pytest.raises(CCVDError, match="rank"):
        remember_all("trace", [{"site": torch.randn(6, 2)}, {"site": torch.randn(6, 3)}])
    with pytest.raises(CCVDError, match="subspace"):
        remember_all("other", [])  # type: ignore[arg-type]


def test_without_earlier_concepts_there_is_nothing_to_lose():
    assert float(remember_all("subspace", []).loss({"site": torch.randn(4, 2)})) == 0
