"""Gradients and Hessian-vector products of Per-FedAvg, as pure functions.

Notation of Fallah, Mokhtari and Ozdaglar 2020 (arXiv 2002.07948): w are the weights, alpha the
inner rate, D, D' and D'' independent batches of one client.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def gradient(
    loss: Tensor, parameters: Sequence[Tensor], *, differentiable: bool = False
) -> list[Tensor]:
    """The derivative of a loss by its parameters; zeros where it does not depend on one.

    Args:
        loss: scalar.
        parameters: tensors that require a gradient.
        differentiable: keep the graph, so that the result can be differentiated again.
    """
    found = torch.autograd.grad(
        loss, list(parameters), create_graph=differentiable, allow_unused=True
    )
    return _zeros_where_unused(found, parameters)


def _zeros_where_unused(
    found: Sequence[Tensor | None], parameters: Sequence[Tensor]
) -> list[Tensor]:
    pairs = zip(parameters, found, strict=True)
    return [torch.zeros_like(p) if g is None else g for p, g in pairs]


def at_finite_scale(compute: Callable[[float], list[Tensor]], scale: float) -> list[Tensor]:
    """A derivative that passes through half precision, where small values become zero.

    The loss is multiplied by `scale` first and the derivative divided by it afterwards, as AMP's
    GradScaler does; a scale that overflows is lowered by 16 at a time until nothing is infinite.

    Args:
        compute: the derivative of the loss times its argument.
        scale: where to begin; 1 for float32 and bfloat16, which need no scaling.
    """
    while scale > 1:
        found = [part / scale for part in compute(scale)]
        if all(bool(torch.isfinite(part).all()) for part in found):
            return found
        scale /= 16
    return compute(1.0)


@torch.no_grad()
def move(
    parameters: Sequence[Tensor],
    direction: Sequence[Tensor],
    scale: float,
    spare: list[Tensor] | None = None,
) -> list[Tensor]:
    """Give the parameters the values w + scale * direction.

    The sums take the place of the tensors that hold w, which is one pass over the memory; copying
    w away and back would be three.

    Args:
        parameters: hold w.
        direction: shapes as w.
        scale: factor of the direction.
        spare: memory for the sums, filled at the first call and used again at the next ones; new
            memory for each step can cost as much as the step's arithmetic.

    Returns:
        The tensors that hold w, for `put_back`.
    """
    here = [weight.data for weight in parameters]
    if spare is None:
        spare = []
    if not spare:
        spare.extend(torch.empty_like(value) for value in here)
    for weight, value, step, total in zip(parameters, here, direction, spare, strict=True):
        weight.data = torch.add(value, step.to(value.dtype), alpha=scale, out=total)
    return here


def put_back(parameters: Sequence[Tensor], here: Sequence[Tensor]) -> None:
    """Give the parameters the tensors back that `move` returned."""
    for weight, value in zip(parameters, here, strict=True):
        weight.data = value


def hessian_product(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], vector: Sequence[Tensor]
) -> list[Tensor]:
    """Hess f(w) v exactly, by differentiating <grad f(w), v> (Pearlmutter 1994).

    Args:
        loss: computes f at the parameters' present values.
        parameters: w.
        vector: v, shapes as w.
    """
    # fused attention kernels have no second derivative
    with sdpa_kernel(SDPBackend.MATH):
        first = gradient(loss(), parameters, differentiable=True)
        curved = [(g, v) for g, v in zip(first, vector, strict=True) if g.requires_grad]
        if not curved:  # the loss is linear, so its Hessian is zero
            return [torch.zeros_like(p) for p in parameters]
        outputs, weights = zip(*curved, strict=True)
        found = torch.autograd.grad(outputs, list(parameters), weights, allow_unused=True)
    return _zeros_where_unused(found, parameters)


def hessian_product_by_differences(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    vector: Sequence[Tensor],
    *,
    reach: float = 1e-7,
) -> list[Tensor]:
    """Hess f(w) v as (grad f(w + d v) - grad f(w - d v)) / (2 d), equation (7) of the paper.

    Only right in double precision: in float32 the difference of two gradients was wrong by a
    third at the best d.

    Args:
        loss: computes f at the parameters' present values, in float64.
        parameters: w in float64; left as they were.
        vector: v in float64.
        reach: length of d v, so d = reach / |v|.

    Raises:
        TypeError: a parameter is not float64.
    """
    wrong = {str(p.dtype) for p in parameters if p.dtype != torch.float64}
    if wrong:
        raise TypeError(f"Expected parameters in float64, but got {sorted(wrong)}.")
    norm = torch.sqrt(sum((v.square().sum() for v in vector), torch.zeros(()).double()))
    if not norm > 0:
        return [torch.zeros_like(p) for p in parameters]
    delta = reach / float(norm)
    here = move(parameters, vector, delta)
    ahead = gradient(loss(), parameters)
    put_back(parameters, here)
    move(parameters, vector, -delta)
    behind = gradient(loss(), parameters)
    put_back(parameters, here)
    return [(a - b) / (2 * delta) for a, b in zip(ahead, behind, strict=True)]


class Float64:
    """Context in which a module's weights and buffers are double precision.

    Going from float32 to float64 and back loses nothing. Parameters keep their identity, so the
    optimiser and the graph's owner do not notice; their gradients are put back unchanged.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        """Remember every dtype, then convert."""
        self._dtypes = {n: t.dtype for n, t in self._tensors().items()}
        self._gradients = {n: p.grad for n, p in self.module.named_parameters()}
        for parameter in self.module.parameters():
            parameter.grad = None
        self._convert({n: torch.float64 for n, d in self._dtypes.items() if d.is_floating_point})

    def __exit__(self, *error: object) -> None:
        """Convert back to the remembered dtypes."""
        self._convert(self._dtypes)
        for name, parameter in self.module.named_parameters():
            parameter.grad = self._gradients[name]

    def _tensors(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters()) | dict(self.module.named_buffers())

    def _convert(self, dtypes: dict[str, torch.dtype]) -> None:
        for name, tensor in self._tensors().items():
            if name in dtypes:
                tensor.data = tensor.data.to(dtypes[name])
