"""What an audit's trials need of a task, checked before anything is trained."""

from collections.abc import Mapping

import pytorch_lightning as pl
import torch

from lightning_fl.audit.attacks.gradients import TaskGradient
from lightning_fl.audit.attacks.idlg import read_label
from lightning_fl.audit.audit_settings import Audit
from lightning_fl.audit.trial_images import REMEDY, TrialImages
from lightning_fl.errors import ConfigError, DataError


def sgd_rate(template: pl.LightningModule) -> float:
    """Return the learning rate of a task that trains by plain SGD.

    Raises:
        ConfigError: it trains otherwise, so an update is no multiple of the gradient.
    """
    configured = template.configure_optimizers()
    optimizer = configured["optimizer"] if isinstance(configured, Mapping) else configured
    if not isinstance(optimizer, torch.optim.SGD) or len(optimizer.param_groups) != 1:
        raise ConfigError(
            f"The audit reads a gradient out of one step of plain SGD, but the task's optimiser is "
            f"{type(optimizer).__name__}. Set it to torch.optim.SGD for the audit, or {REMEDY}"
        )
    group = optimizer.param_groups[0]
    for name in ("momentum", "weight_decay"):
        if group[name] != 0:
            raise ConfigError(
                f"The audit reads a gradient out of one step of plain SGD, but `{name}` is "
                f"{group[name]}. Set it to 0 for the audit, or {REMEDY}"
            )
    return float(group["lr"])


def check_builds_nothing(settings: Audit) -> None:
    """Refuse, in a run that cannot build its task anew, an audit that needs other first weights.

    Raises:
        ConfigError: names the setting.
    """
    several_seeds = settings.trials > 0 and settings.seeds > 1
    shadows = settings.membership and settings.shadows > 0
    if several_seeds or shadows:
        name = "seeds" if several_seeds else "shadows"
        raise ConfigError(
            f"The audit's `{name}` is {getattr(settings, name)}, which needs the task with other "
            "first weights, but a run that is started from Python has no config to build it from. "
            "Start the run by train.py, or leave the setting out."
        )


def check_readable(template: pl.LightningModule, images: TrialImages) -> None:
    """Refuse nets whose gradient does not show the label, or that cannot take a single image."""
    gradient = TaskGradient(template)
    image = images.images[:1]
    try:
        seen = gradient({"image": image, "label": images.labels[:1]})
    except (ConfigError, DataError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # AssertionError: timm
        net = type(getattr(gradient.module, "net", gradient.module)).__name__
        raise ConfigError(
            f"{net} cannot take images of shape {tuple(image.shape)} (batch, channels, "
            f"height, width): {error} Change the net's dimensions or input channels, or "
            f"`channels` or `size` in the datamodule, or {REMEDY}"
        ) from error
    read_label(gradient.module, seen)
