"""The task around its network, with the first weights of a run."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser
from torch import nn

from lightning_fl.seeds import derive_seed, seed_all

SETTINGS = ("net", "task")
"""Keys of a run's settings that `build_task` reads."""


def add_task_settings(parser: ArgumentParser) -> None:
    """Add `net` and `task` to a parser."""
    parser.add_argument(
        "--net",
        type=nn.Module,
        required=True,
        help="any network from images to logits, e.g. `segmentation_models_pytorch.Unet`.",
    )
    parser.add_argument(
        "--task",
        type=Callable[[nn.Module], pl.LightningModule],
        required=True,
        help="the LightningModule around `net`, e.g. `models.Segmentation`.",
    )


def build_task(settings: Mapping[str, Any], seed: int) -> pl.LightningModule:
    """Build the task with the first weights of a run.

    Nothing else decides first weights: the coordinator, each site, the audit and predictions call
    this function. Of the run's resolved settings it reads `net` and `task`.
    """
    parser = ArgumentParser(exit_on_error=False)
    add_task_settings(parser)
    resolved = parser.parse_object({name: settings[name] for name in SETTINGS})
    seed_all(derive_seed(seed, "net"))
    built = parser.instantiate(resolved)
    seed_all(derive_seed(seed, "task"))
    module: pl.LightningModule = built.task(built.net)
    return module


def without_download(net: dict[str, Any]) -> dict[str, Any]:
    """Return a network's settings without pretrained weights, which a run's own replace."""
    values = dict(net.get("init_args") or {})
    untrained = {"encoder_weights": None, "weights": None, "pretrained": False}
    return {**net, "init_args": values | {n: v for n, v in untrained.items() if n in values}}
