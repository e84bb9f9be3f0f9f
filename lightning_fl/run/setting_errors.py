"""What is wrong with a class that the settings name, in a sentence of its own."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from lightning_fl.errors import ConfigError, DataError
from lightning_fl.training.task import build_task


def task_of(settings: Mapping[str, Any], seed: int) -> pl.LightningModule:
    """Build the task; raise a ConfigError for pretrained weights that are not here."""
    try:
        return build_task(settings, seed)
    except OSError as error:  # so the hubs say that they were not reached
        raise ConfigError(
            f"A file of the network cannot be had: {error} Pretrained weights are downloaded once. "
            "Copy the caches of a machine that has them (~/.cache/huggingface, ~/.cache/torch), "
            "or do without: `--net.encoder_weights null`."
        ) from error


def own_error(error: ValueError | ImportError) -> ValueError | ImportError:
    """Return the ConfigError or DataError behind an error, or the error itself.

    jsonargparse wraps what the class of an optional setting such as `privacy` raises into a list of
    all types that it tried. A package that is missing becomes a ConfigError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError | DataError):
            return cause
        if isinstance(cause, ImportError):
            return _missing_package(cause)
        cause = cause.__cause__
    return error


def _missing_package(error: ImportError) -> ConfigError:
    """Say how to install what a class of the settings needs."""
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    remedy = "" if "pip install" in reason else f" Install it: pip install {error.name or 'it'}."
    return ConfigError(
        f"A class of the settings needs a package that is not here: {reason}.{remedy}"
    )
