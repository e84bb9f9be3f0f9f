"""A run that is over, as those see it who use its models: network, weights, preprocessing."""

import json
from dataclasses import dataclass
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
from lightning_fl.run_files import CONFIG, GLOBAL, LOCAL, MODELS, PERSONAL, PREPROCESSING
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.task import build_task, without_download


@dataclass(frozen=True)
class FinishedRun:
    """The models of a run, from the files in its folder alone; the run's data are not needed.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved settings.

        Raises:
            ConfigError: this is no folder of a run.
        """
        file = self.folder / CONFIG
        if not file.is_file():
            raise ConfigError(f"{str(self.folder)!r} is no folder of a run: it has no {CONFIG}.")
        settings: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        return settings

    @cached_property
    def members(self) -> tuple["FinishedRun", ...]:
        """The run of each direction, or this one alone."""
        directions = self.config.get("directions") or ()
        return tuple(FinishedRun(self.folder / name) for name in directions) or (self,)

    @property
    def direction(self) -> str:
        """The direction that this run's data are cut in; "" where they have none."""
        return str(self.config["data"].get("init_args", {}).get("direction", ""))

    @property
    def batch_size(self) -> int:
        """Images that the run scored at a time."""
        return int(self.config["data"]["init_args"]["batch_size"])

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Hospitals that have a model of their own here."""
        files = sorted((self.folder / MODELS).glob("*.safetensors"))
        names = [file.name.removesuffix(".safetensors") for file in files]
        return tuple(n for n in names if n != GLOBAL and not n.endswith(f".{GLOBAL}"))

    def options(self, accelerator: str | None = None) -> TrainerOptions:
        """How the run's Trainers were set, perhaps on another device."""
        values = dict(self.config["trainer"])
        return TrainerOptions(**(values | ({"accelerator": accelerator} if accelerator else {})))

    @cached_property
    def template(self) -> pl.LightningModule:
        """The task around the network as the settings build them, with weights of no use."""
        net = without_download(self.config["net"])
        return build_task({**self.config, "net": net}, 0)

    def fresh_task(self, seed: int) -> pl.LightningModule:
        """The task with the first weights that the same settings give with another seed."""
        return build_task(self.config, seed)

    def model(self, site: str | None, kind: str) -> pl.LightningModule:
        """A model with its weights.

        Args:
            site: whose; None for the global model as a hospital outside of the run would get it.
            kind: "global" or "personal".

        Raises:
            ConfigError: the run has no such model.
        """
        file = self._weights(site, kind)
        if file is None:
            raise ConfigError(
                f"The run in {self.folder} has no {kind} model of site {site!r}; it has models of "
                f"{list(self.sites)}. A run writes them at its end; finish it with --resume."
            )
        if site is None and (local := self._local_entries(file)):
            raise ConfigError(
                f"The shared model of {self.folder} is not whole without a site: {len(local)} of "
                f"its entries, such as {local[0]}, stayed at each. Name a site with --site."
            )
        return rebuild(self.template, safetensors.torch.load_file(file)).eval()

    def has(self, site: str | None, kind: str) -> bool:
        """Whether there is such a model."""
        return self._weights(site, kind) is not None

    def _local_entries(self, file: Path) -> list[str]:
        with safe_open(file, "pt") as stored:
            names: list[str] = json.loads((stored.metadata() or {}).get(LOCAL, "[]"))
        return names

    def _weights(self, site: str | None, kind: str) -> Path | None:
        """File of a model, or None."""
        models = self.folder / MODELS
        if site is not None and site not in self.sites:
            return None
        if kind == PERSONAL:
            candidates = [models / f"{site}.safetensors"]
        else:  # a site may have layers of its own in the model that all share
            candidates = [models / f"{site}.global.safetensors", models / "global.safetensors"]
        return next((file for file in candidates if file.is_file()), None)

    def preprocessing(self, site: str | None) -> Preprocessing:
        """How a site's scans become what its model sees.

        Args:
            site: whose; None where all sites have the same.

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
        if site is None:
            found = [from_settings(settings) for settings in stored.values()]
            if any(one != found[0] for one in found):
                raise ConfigError(
                    f"The sites of {self.folder} prepare their scans in different ways; name one "
                    f"of {list(stored)} with --site."
                )
            return found[0]
        if site not in stored:
            raise ConfigError(f"No site {site!r} in {file}; it has {list(stored)}.")
        return from_settings(stored[site])
