"""Builds the sites of a run in another process than the run's own, from text alone."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from lightning_fl.by_name import load_by_name
from lightning_fl.monitor import Monitor
from lightning_fl.site import Site

if TYPE_CHECKING:
    from lightning_fl.run import Run

NOT_OF_SITES: dict[str, Any] = {
    "engine": {"class_path": "lightning_fl.engines.Local"},
    "loggers": [],
    "audit": None,
    "output": None,
}
"""What a process that only hosts sites has in place of the run's own settings."""


@dataclass(frozen=True)
class SiteMaker:
    """Builds sites from the settings of a run, wherever it is unpickled.

    Args:
        settings: the text of config.yaml.
        folder: of the run as this process sees it; a site's own lies inside.
        run: identifier of the run.
        sites: all hospitals, where the data here are not those of all; () to list them there.
        threads: of torch in a process that hosts sites; numbers can differ in the last bits with
            their count. None leaves them as they are.
    """

    settings: str
    folder: str
    run: str
    sites: tuple[str, ...] = ()
    threads: int | None = None

    def __call__(self, name: str) -> Site:
        """Build one site; its network and settings are shared with others in the same process.

        Raises:
            ConfigError: the settings cannot work here.
        """
        return run_of(self).make_site(name)


@lru_cache(maxsize=1)
def run_of(maker: SiteMaker) -> "Run":
    """The run whose sites are built, as far as sites need it.

    Raises:
        ConfigError: the settings cannot work here.
    """
    from lightning_fl.config import experiment_of  # these two name SiteMaker themselves
    from lightning_fl.run import Run

    if maker.threads is not None:
        torch.set_num_threads(maker.threads)
    values: dict[str, Any] = yaml.safe_load(maker.settings)
    experiment = experiment_of(yaml.safe_dump(values | NOT_OF_SITES))
    callback = load_by_name("callbacks", file="callbacks/", user="sites").FederatedCallback
    folder = Path(maker.folder)
    run = Run(experiment, folder, callback, Monitor(), sites=maker.sites)
    run.run_id = maker.run
    return run
