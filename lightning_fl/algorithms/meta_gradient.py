"""Compute gradients and Hessian-vector products of Per-FedAvg, as pure functions.

Notation of Fallah, Mokhtari and Ozdaglar 2020 (arXiv 2002.07948): w are the weights, alpha the
inner rate, D, D' and D'' independent batches of one client.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

REACH = 1e-7
"""How far from w the two gradients are taken whose difference replaces the Hessian."""


def gradient(
    loss: Tensor, parameters: Sequence[Tensor], *, differentiable: bool = False
) -> list[Tensor]:
    """Differentiate a loss by its parameters; zeros where it does not depend on one.

    A `differentiable` result can be differentiated again.
    """
    parts = torch.autograd.grad(
        loss, list(parameters), create_graph=differentiable, materialize_grads=True
    )
    return list(parts)


def at_finite_scale(compute: Callable[[float], list[Tensor]], scale: float) -> list[Tensor]:
    """Compute a derivative that passes through half precision, where small values become zero.

    The loss is multiplied by `scale` first and the derivative divided by it afterwards, as AMP's
    GradScaler does; a scale that overflows is lowered by 16 at a time until nothing is infinite.

    `compute` gives the derivative of the loss times its argument. `scale` is where to begin; 1 is
    for float32 and bfloat16, which need no scaling.
    """
    while scale > 1:
        derivative = [part / scale for part in compute(scale)]
        if all(bool(torch.isfinite(part).all()) for part in derivative):
            return derivative
        scale /= 16
    return compute(1.0)


@torch.no_grad()
def move(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], scale: float, spare: list[Tensor]
) -> list[Tensor]:
    """Give the parameters the values w + scale * direction.

    The sums take the place of the tensors that hold w, which is one pass over the memory; copying
    w away and back would be three.

    `spare` is memory for the sums, filled if it is empty and used again at the next call: new
    memory for each step can cost as much as the step's arithmetic. The result is the tensors that
    hold w, for `put_back`.
    """
    values = [weight.data for weight in parameters]
    if not spare:
        spare.extend(torch.empty_like(value) for value in values)
    for weight, value, step, total in zip(parameters, values, direction, spare, strict=True):
        weight.data = torch.add(value, step.to(value.dtype), alpha=scale, out=total)
    return values


def put_back(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Give the parameters the tensors back that `move` returned."""
    for weight, value in zip(parameters, values, strict=True):
        weight.data = value


def hessian_product(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Compute Hess f(w) v exactly, by differentiating <grad f(w), v> (Pearlmutter 1994).

    `loss` computes f at the parameters' present values.
    """
    # fused attention kernels have no second derivative
    with sdpa_kernel(SDPBackend.MATH):
        first = gradient(loss(), parameters, differentiable=True)
        curved = [(g, v) for g, v in zip(first, vector, strict=True) if g.grad_fn is not None]
        if not curved:  # the loss is linear, so its Hessian is zero
            return [torch.zeros_like(p) for p in parameters]
        outputs, weights = zip(*curved, strict=True)
        return list(torch.autograd.grad(outputs, list(parameters), weights, materialize_grads=True))


def hessian_product_by_differences(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Compute Hess f(w) v as (grad f(w + d v) - grad f(w - d v)) / (2 d), the paper's equation (7).

    It is right in double precision only: the difference of two gradients at close points drowns in
    the rounding of float32, where it was wrong by a third at the best d.

    Parameters and v are in float64, and d is `REACH` / |v|. The parameters are left as they were.

    Raises:
        TypeError: a parameter is not float64.
    """
    wrong = {str(p.dtype) for p in parameters if p.dtype != torch.float64}
    if wrong:
        raise TypeError(f"Expected parameters in float64, but got {sorted(wrong)}.")
    norm = torch.sqrt(sum((v.square().sum() for v in vector), torch.zeros(()).double()))
    if not norm > 0:
        return [torch.zeros_like(p) for p in parameters]
    delta = REACH / float(norm)
    values = move(parameters, vector, delta, [])
    ahead = gradient(loss(), parameters)
    put_back(parameters, values)
    move(parameters, vector, -delta, [])
    behind = gradient(loss(), parameters)
    put_back(parameters, values)
    return [(a - b) / (2 * delta) for a, b in zip(ahead, behind, strict=True)]


@contextmanager
def in_float64(module: nn.Module) -> Iterator[None]:
    """Give a module's weights and buffers double precision for a while.

    Going from float32 to float64 and back loses nothing. Parameters keep their identity, so the
    optimiser and the graph's owner do not notice; their gradients are put back unchanged.
    """
    dtypes = {name: tensor.dtype for name, tensor in _tensors(module).items()}
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = None
    _convert(module, {n: torch.float64 for n, dtype in dtypes.items() if dtype.is_floating_point})
    try:
        yield
    finally:
        _convert(module, dtypes)
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _convert(module: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    tensors = _tensors(module)
    for name in tensors.keys() & dtypes.keys():
        tensors[name].data = tensors[name].data.to(dtypes[name])
