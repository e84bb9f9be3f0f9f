"""A run that is over, for those who use its models: network, weights, preprocessing."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import safetensors.torch
import yaml
from safetensors import safe_open

from lightning_fl.data.scans import Preprocessing, from_settings
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.rebuild import rebuild
from lightning_fl.results.summary import read_results
from lightning_fl.run_files import (
    CONFIG,
    GLOBAL,
    LOCAL,
    MODELS,
    PERSONAL,
    PREPROCESSING,
    first_weights,
    settings_file,
)
from lightning_fl.training.first_weights import with_weights
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.task import build_task, without_download


@dataclass(frozen=True)
class FinishedRun:
    """Give the models of a run from the files in its folder alone, without the run's data.

    Attributes:
        folder: of the run.
        task: the task around the network, with any weights. A run that was started from Python
            needs it, since no file tells how its network is built.
    """

    folder: Path
    task: pl.LightningModule | None = field(default=None, repr=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved settings of the run; ConfigError for a folder of anything else."""
        file = settings_file(self.folder)
        if not file.is_file():
            raise ConfigError(f"{str(self.folder)!r} is no folder of a run: it has no {CONFIG}.")
        settings: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return settings

    @property
    def results(self) -> dict[str, Any]:
        """Return what results.json says; ConfigError where the run has finished no round."""
        file = self.folder / "results.json"
        if not file.is_file():
            raise ConfigError(
                f"The run in {self.folder} has finished no round, so it has no scores."
            )
        return read_results(file)

    @cached_property
    def members(self) -> tuple["FinishedRun", ...]:
        """The run of each direction, or this one alone."""
        directions = self.config.get("directions") or ()
        return tuple(FinishedRun(self.folder / name) for name in directions) or (self,)

    @property
    def direction(self) -> str:
        """The direction that this run's data are cut in; "" where there is none."""
        return str(self.config["data"].get("init_args", {}).get("direction", ""))

    @property
    def batch_size(self) -> int:
        """The number of images that the run scored at a time."""
        return int(self.config["data"]["init_args"]["batch_size"])

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The hospitals that have a model of their own in the run."""
        files = sorted((self.folder / MODELS).glob("*.safetensors"))
        names = [file.name.removesuffix(".safetensors") for file in files]
        return tuple(n for n in names if n != GLOBAL and not n.endswith(f".{GLOBAL}"))

    def options(self, accelerator: str | None = None) -> TrainerOptions:
        """Return how the run's Trainers were set, on another device if one is named."""
        options = TrainerOptions(**self.config["trainer"])
        return replace(options, accelerator=accelerator) if accelerator else options

    @cached_property
    def template(self) -> pl.LightningModule:
        """The task around the network as the settings build them, with meaningless weights."""
        if self.task is not None:
            return self.task
        self._check_can_build("Give it: `lightning_fl.load(folder, task)`.")
        net = without_download(self.config["net"])
        return build_task({**self.config, "net": net}, 0)

    def fresh_task(self, seed: int) -> pl.LightningModule:
        """Build the task with the run's first weights: those of `init`, or of another seed."""
        self._check_can_build("Start the run by train.py to train its network anew.")
        task, init = build_task(self.config, seed), first_weights(self.folder)
        return task if init is None else with_weights(task, init)

    def _check_can_build(self, remedy: str) -> None:
        """Refuse to build a task that no file describes."""
        if not (self.folder / CONFIG).is_file():
            raise ConfigError(
                f"The run in {self.folder} was started from Python, so no {CONFIG} tells how its "
                f"task is built. {remedy}"
            )

    def model(self, site: str | None = None, kind: str | None = None) -> pl.LightningModule:
        """Load a model, in evaluation mode.

        Args:
            site: whose; None or "global" is the shared model as an outsider would get it.
            kind: "personal", or "global" for the shared model with the layers that the site has
                for itself; None is the site's personal model.

        Raises:
            ConfigError: the run has no such model.
        """
        site = None if site == GLOBAL else site
        kind = kind or (GLOBAL if site is None else PERSONAL)
        file = self._weights(site, kind)
        if file is None:
            raise ConfigError(
                f"The run in {self.folder} has no {kind} model of site {site!r}; it has models of "
                f"{list(self.sites)}. A run writes them at its end; finish it with --resume."
            )
        if site is None and (local := _local_entries(file)):
            raise ConfigError(
                f"The shared model of {self.folder} is not whole without a site: {len(local)} of "
                f"its entries, such as {local[0]}, stayed at each. Name a site with --site."
            )
        return rebuild(self.template, safetensors.torch.load_file(file)).eval()

    def has(self, site: str | None, kind: str) -> bool:
        """Return whether there is such a model."""
        return self._weights(site, kind) is not None

    def _weights(self, site: str | None, kind: str) -> Path | None:
        """Return the file of a model, or None."""
        if site is not None and site not in self.sites:
            return None
        # a site may have layers of its own in the model that all share
        names = [site] if kind == PERSONAL else [f"{site}.{GLOBAL}", GLOBAL]
        files = [self.folder / MODELS / f"{name}.safetensors" for name in names]
        return next((file for file in files if file.is_file()), None)

    def preprocessing(self, site: str | None) -> Preprocessing:
        """Return how the scans of a site, or of all sites alike, become what its model sees.

        Raises:
            ConfigError: the run has stored none, or sites differ and none is named.
        """
        file = self.folder / PREPROCESSING
        if not file.is_file():
            raise ConfigError(
                f"The run in {self.folder} has no {PREPROCESSING}: its data module cannot read new "
                "files. Use one that has `preprocessing`, e.g. datamodules.CTFolder."
            )
        stored: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        if site is not None:
            if site not in stored:
                raise ConfigError(f"No site {site!r} in {file}; it has {list(stored)}.")
            return from_settings(stored[site])
        first, *others = (from_settings(settings) for settings in stored.values())
        if any(other != first for other in others):
            raise ConfigError(
                f"The sites of {self.folder} prepare their scans in different ways; name one of "
                f"{list(stored)} with --site."
            )
        return first


def load(folder: str | Path, task: pl.LightningModule | None = None) -> FinishedRun:
    """Open the folder of a run.

    Args:
        folder: of the run.
        task: the task around the network; needed where the run was started from Python.

    Raises:
        ConfigError: it is no folder of a run.
    """
    run = FinishedRun(Path(folder), task)
    _ = run.config  # which is the test of a run
    return run


def _local_entries(file: Path) -> list[str]:
    """Name the entries that stayed at the sites, from the metadata of the shared model."""
    with safe_open(file, "pt") as stored:
        names: list[str] = json.loads((stored.metadata() or {}).get(LOCAL, "[]"))
    return names
