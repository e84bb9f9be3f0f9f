"""Build the sites of a run in another process than the run's own, from text alone."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_fl.run.blueprint import Blueprint
from lightning_fl.run.config import experiment_of
from lightning_fl.run_files import SITES, first_weights
from lightning_fl.site.site import Site
from lightning_fl.site.terms import SiteTerms

NOT_OF_SITES: dict[str, Any] = {
    "engine": {"class_path": "lightning_fl.engines.Local"},
    "loggers": [],
    "audit": None,
    "output": None,
    "init": None,
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
        terms: of the hospital that hosts the site; None for a simulated one.
    """

    settings: str
    folder: str
    run: str
    sites: tuple[str, ...] = ()
    threads: int | None = None
    terms: SiteTerms | None = None

    def __call__(self, name: str) -> Site:
        """Build one site; its network and settings are shared with others in the same process.

        Raises:
            ConfigError: the settings cannot work here.
        """
        folder = Path(self.folder) / SITES / name
        return blueprint_of(self).make_site(name, self.run, folder, self.terms)


@lru_cache(maxsize=1)
def blueprint_of(maker: SiteMaker) -> Blueprint:
    """Return the blueprint of the run whose sites are built.

    Raises:
        ConfigError: the settings cannot work here.
    """
    if maker.threads is not None:
        torch.set_num_threads(maker.threads)
    values: dict[str, Any] = yaml.safe_load(maker.settings)
    experiment = experiment_of(yaml.safe_dump(values | NOT_OF_SITES))
    return Blueprint(experiment, maker.sites, first_weights(Path(maker.folder)))
