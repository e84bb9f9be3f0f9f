"""The network of a finished run, by itself, and what its user has to know."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch import nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.ensemble import MeanNet
from lightning_fl.personalisation.mirror import MirrorNet
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.run_files import CONFIG, GLOBAL, PREPROCESSING


@dataclass(frozen=True)
class TrainedNet:
    """Hold one model of a run without the task around it.

    Attributes:
        name: of the site, "global", or "<site>.global" for the shared model as the site has it.
        net: the user's network with its trained weights, in evaluation mode.
        task: the task that trained it.
        settings: the class of the network and its settings; None where no file has them.
        preprocessing: how scans become what the network sees; None where the run has stored none.
    """

    name: str
    net: nn.Module
    task: pl.LightningModule
    settings: dict[str, Any] | None
    preprocessing: dict[str, Any] | None

    def check_is_one_net(self) -> None:
        """Refuse a personal model that runs a network several times, whose weights are no net's.

        Raises:
            ConfigError: the remedy is another format, or the shared model.
        """
        if isinstance(self.net, MeanNet | MirrorNet):
            raise ConfigError(
                f"The personal model of {self.name!r} is a mean of several outputs "
                f"({type(self.net).__name__}), which weights alone cannot hold. Export it by --to "
                "torch_export or onnx, or take --model global."
            )

    def describe(self, shape: tuple[int, ...] | None) -> dict[str, Any]:
        """Return what is written beside the network: its input, its output, the preprocessing."""
        classes = getattr(self.task, "classes", None)
        probabilities = {None: None, 1: "sigmoid"}.get(classes, "softmax")
        return {
            "model": self.name,
            "input": {"dtype": "float32", "shape": None if shape is None else ["batch", *shape]},
            "output": {
                "values": "logits",
                "channels": classes,
                "probabilities": probabilities,
                "threshold": getattr(self.task, "threshold", None),
            },
            "preprocessing": self.preprocessing,
        }


def trained_net(run: FinishedRun, site: str | None, kind: str | None = None) -> TrainedNet:
    """Load the network of a site, or the shared one; see `FinishedRun.model`.

    Raises:
        ConfigError: there is no such model, it has several directions, or its task has no `net`.
    """
    if len(run.members) > 1:
        names = [member.folder.name for member in run.members]
        raise ConfigError(
            f"The run in {run.folder} has a network for each of {names}. Export one of them: "
            f"--run {run.folder / names[0]}."
        )
    site = None if site == GLOBAL else site
    task = run.model(site, kind)
    net = getattr(task, "net", None)
    if not isinstance(net, nn.Module):
        raise ConfigError(
            f"An export takes the task's network `net`, which {type(task).__name__} has not. Keep "
            "the network under that name."
        )
    settings = run.config["net"] if (run.folder / CONFIG).is_file() else None
    stored = (run.folder / PREPROCESSING).is_file()
    preprocessing = run.preprocessing(site).to_settings() if stored else None
    name = f"{site}.{GLOBAL}" if site and kind == GLOBAL else site or GLOBAL
    return TrainedNet(name, net, task, settings, preprocessing)
