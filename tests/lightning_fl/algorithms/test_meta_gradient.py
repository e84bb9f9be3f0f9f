"""Gradients and Hessian products on problems with known answers."""

import pytest
import torch
from torch import Tensor, nn

from lightning_fl.algorithms.meta_gradient import (
    at_finite_scale,
    gradient,
    hessian_product,
    hessian_product_by_differences,
    in_float64,
)


def cubic(w: Tensor) -> Tensor:
    """f = sum w^3 + w_0 w_1, so Hess f = diag(6 w) + [[0, 1], [1, 0]]."""
    return (w**3).sum() + w[0] * w[1]


def expected(w: Tensor, v: Tensor) -> Tensor:
    return 6 * w.detach() * v + v.flip(0)


def test_exact_product_has_the_known_value() -> None:
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    v = torch.tensor([0.5, 3.0])
    [product] = hessian_product(lambda: cubic(w), [w], [v])
    torch.testing.assert_close(product, expected(w, v))


def test_differences_in_float64_agree_and_leave_the_weights_alone() -> None:
    w = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    v = torch.tensor([0.5, 3.0], dtype=torch.float64)
    [product] = hessian_product_by_differences(lambda: cubic(w), [w], [v])
    torch.testing.assert_close(product, expected(w, v), rtol=1e-6, atol=1e-6)
    assert w.tolist() == [1.0, -2.0]


def test_differences_in_float32_are_refused() -> None:
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(
        TypeError, match=r"Expected parameters in float64, but got \['torch.float32"
    ):
        hessian_product_by_differences(lambda: cubic(w), [w], [torch.ones(2)])


def test_a_zero_vector_and_a_linear_loss_give_zero() -> None:
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(2, dtype=torch.float64)
    assert hessian_product_by_differences(lambda: cubic(w), [w], [zero])[0].tolist() == [0, 0]
    assert hessian_product(lambda: w.sum(), [w], [torch.ones(2).double()])[0].tolist() == [0, 0]


def test_a_parameter_the_loss_does_not_use_has_a_zero_gradient() -> None:
    used, unused = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert [g.tolist() for g in gradient(used.sum(), [used, unused])] == [[1, 1], [0, 0]]


def test_double_precision_comes_and_goes_without_loss() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    identities = [id(p) for p in module.parameters()]
    module[0].weight.grad = torch.ones(2, 3)
    with in_float64(module):
        assert {p.dtype for p in module.parameters()} == {torch.float64}
        assert module.state_dict()["1.num_batches_tracked"].dtype == torch.int64
        assert module[0].weight.grad is None
    assert identities == [id(p) for p in module.parameters()]
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert module[0].weight.grad is not None


def half_precision_gradient(w: Tensor, scale: float) -> list[Tensor]:
    """d/dw of 1e-9 w, with a pass through float16 that small gradients do not survive."""
    return gradient((w.half() * 1.0).float().sum() * 1e-9 * scale, [w])


def test_scaling_saves_what_half_precision_would_lose() -> None:
    w = torch.ones(1, requires_grad=True)
    assert half_precision_gradient(w, 1.0)[0].item() == 0
    [found] = at_finite_scale(lambda scale: half_precision_gradient(w, scale), 65536.0)
    assert found.item() == pytest.approx(1e-9, rel=0.01)


def test_an_overflowing_scale_is_lowered() -> None:
    w = torch.ones(1, requires_grad=True)
    tried: list[float] = []

    def compute(scale: float) -> list[Tensor]:
        tried.append(scale)
        return gradient((w.half() * 1.0).float().sum() * 100 * scale, [w])

    [found] = at_finite_scale(compute, 65536.0)
    assert found.item() == pytest.approx(100, rel=0.01)
    assert tried == [65536.0, 4096.0, 256.0]
