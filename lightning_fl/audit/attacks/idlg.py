"""iDLG: the label first, from the last layer's gradient (Zhao et al. 2020, arXiv 2001.02610)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lightning_fl.audit.attacks.dlg import dlg
from lightning_fl.audit.attacks.gradients import TaskGradient
from lightning_fl.audit.attacks.matching import Matching, Reconstruction
from lightning_fl.audit.attacks.targets import Known
from lightning_fl.errors import ConfigError, DataError


def idlg(
    gradient: TaskGradient,
    seen: Mapping[str, Tensor],
    shape: tuple[int, ...],
    *,
    values: tuple[float, float] = (0.0, 1.0),
    iterations: int = 300,
    restarts: int = 3,
    seed: int = 0,
) -> Reconstruction:
    """Read the label from the gradient of one sample, then match the gradient with L-BFGS.

    Args:
        gradient: of the task, at the weights that the site started from.
        seen: the gradient.
        shape: of the images, (1, C, H, W).
        values: smallest and largest value of a pixel.
        iterations: of L-BFGS.
        restarts: starts at most; see `dlg`.
        seed: of the starts.

    Raises:
        ConfigError: there is more than one image, or the last layer does not show the label.
        DataError: the seen gradient lacks the last layer or is zero there.
    """
    if shape[0] != 1:
        raise ConfigError(
            f"iDLG reads the label of one sample, but the batch has {shape[0]}. Use `dlg` or "
            "`invert_gradient` with HiddenLabel for larger batches."
        )
    label = Known("label", read_label(gradient.module, seen).to(gradient.like.device))
    problem = Matching(gradient, seen, shape, label, values)
    return dlg(problem, iterations=iterations, restarts=restarts, seed=seed)


def read_label(module: nn.Module, seen: Mapping[str, Tensor]) -> Tensor:
    """Read the label of one sample from the gradient of the last layer alone.

    With logits z, cross-entropy has dL/dz_c = p_c - 1[c = label], negative for the label only, and
    the sigmoid's binary cross-entropy dL/dz = p - label. The bias's gradient is dL/dz itself; row c
    of the weight's is dL/dz_c times the layer's input, which tells the sign where the input
    is of one sign (sigmoid, ReLU) or, from three classes, since the label's row points away from
    all others.

    Args:
        module: whose last layer with weights gives the logits.
        seen: the gradient of one sample.

    Returns:
        int64 (1,).

    Raises:
        ConfigError: the layer shows no sign.
        DataError: its gradient is not there, or zero or NaN everywhere.
    """
    name, layer = last_layer(module)
    bias = seen.get(f"{name}.bias") if layer.bias is not None else None
    weight = seen.get(f"{name}.weight")
    signal = bias if bias is not None else weight
    if signal is None:
        raise DataError(
            f"The seen gradient has nothing of the last layer, {name!r}, which shows the label; it "
            "may be one that stays at the site. Use `dlg` with HiddenLabel."
        )
    if not bool(signal.isfinite().all()) or not bool(signal.any()):
        raise DataError(
            f"The gradient of the last layer, {name!r}, is zero or not finite, so it shows no "
            "label. The net may be certain of its answer already; attack an earlier round."
        )
    if bias is None:
        return _label_of_rows(name, signal.flatten(1))
    return _label_of_signs(bias.flatten())


def last_layer(module: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the last linear or convolutional layer, in the order of definition, and its name.

    Raises:
        ConfigError: there is none.
    """
    layers = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ConfigError(
            f"{type(module).__name__} has no linear or convolutional layer, so there is no last "
            "layer to read a label from. Use `dlg` with HiddenLabel."
        )
    return layers[-1]


def _label_of_signs(signs: Tensor) -> Tensor:
    """Return the label where `signs` has the sign of dL/dz, shape (classes,)."""
    if len(signs) == 1:
        return (signs < 0).long()
    return signs.argmin().reshape(1)


def _label_of_rows(name: str, rows: Tensor) -> Tensor:
    """Return the label from the weight's gradient (classes, inputs), where there is no bias.

    Raises:
        ConfigError: the rows show no sign.
    """
    one_sign = all(bool((row >= 0).all()) or bool((row <= 0).all()) for row in rows)
    if one_sign:
        return _label_of_signs(rows.sum(dim=1))
    if len(rows) >= 3:
        products = rows @ rows.T
        products.fill_diagonal_(-torch.inf)
        against_all = products.amax(dim=1) <= 0
        if int(against_all.sum()) == 1:
            return against_all.nonzero()[0]
    raise ConfigError(
        f"The last layer, {name!r}, has no bias, and its weight's gradient shows no sign: its "
        "inputs are of both signs. iDLG cannot read the label; use `dlg` with HiddenLabel, or a "
        "net whose last layer has a bias."
    )
