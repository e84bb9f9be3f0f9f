"""The task around its network, built from the settings of a run alone."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser
from torch import nn

from lightning_fl.seeds import derive_seed, seed_all

Task = Callable[[nn.Module], pl.LightningModule]
"""As in `Experiment.task`, so that both read the same YAML."""


def build_task(settings: Mapping[str, Any], seed: int) -> pl.LightningModule:
    """The task with the first weights of a run that has this seed.

    Args:
        settings: resolved, of a run; `net` and `task` are read.
        seed: of the weights.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net", required=True)
    parser.add_argument("--task", type=Task, required=True)
    chosen = parser.parse_object({name: settings[name] for name in ("net", "task")})
    seed_all(derive_seed(seed, "net"))
    built = parser.instantiate(chosen)
    seed_all(derive_seed(seed, "task"))
    module: pl.LightningModule = built.task(built.net)
    return module


def without_download(net: dict[str, Any]) -> dict[str, Any]:
    """A network's settings without pretrained weights, which the run's own replace."""
    values = dict(net.get("init_args") or {})
    for name in values:
        if re.fullmatch(r"encoder_weights|weights", name):
            values[name] = None
        elif name == "pretrained":
            values[name] = False
    return {**net, "init_args": values}
