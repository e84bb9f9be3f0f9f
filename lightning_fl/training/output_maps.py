"""How a task's outputs become probabilities: its method `output_maps()`."""

from collections.abc import Callable

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.errors import ConfigError

OutputMap = Callable[[Tensor], Tensor]


def output_maps(task: pl.LightningModule) -> tuple[OutputMap, OutputMap]:
    """Return a task's function from outputs to probabilities, and the inverse."""
    maps: tuple[OutputMap, OutputMap] = task.output_maps()  # type: ignore[operator]
    return maps


def check_output_maps(task: pl.LightningModule, need: str, alternative: str) -> None:
    """Refuse a task without `output_maps`.

    Raises:
        ConfigError: says why it is needed, e.g. "Mirror averages probabilities", and what else to
            do, e.g. "leave Mirror out".
    """
    if not callable(getattr(task, "output_maps", None)):
        raise ConfigError(
            f"{need}, but {type(task).__name__} does not say how its outputs become some: it has "
            "no method `output_maps()` giving that function and its inverse. Add it, or "
            f"{alternative}."
        )
