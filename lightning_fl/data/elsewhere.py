"""The data of a federation whose coordinator has none of them."""

from collections.abc import Sequence
from typing import Any, NoReturn

from torch.utils.data import Dataset

from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.errors import ConfigError


class DataElsewhere(FederatedDataModule):
    """Stands at the coordinator for data that only the hospitals have: it knows their names.

    Args:
        sites: all hospitals, those in `unseen` included.
        unseen: hospitals that never train.
    """

    def __init__(self, sites: Sequence[str], unseen: Sequence[str] = ()) -> None:
        super().__init__(unseen=unseen)
        self.sites = tuple(sites)

    def site_names(self) -> tuple[str, ...]:
        """Names of the hospitals."""
        return self.sites

    def patients(self, site: str) -> NoReturn:
        """Never known here.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"The data of {site!r} are at the hospital and not here, so what needs them cannot be "
            "done by the coordinator. Set `audit` to null and `directions` to [], or use the "
            "Local engine."
        )

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Never there; see `patients`."""
        del patients, augment
        return self.patients(site)

    def for_site(self, site: str, seed: int) -> Any:
        """Never there; see `patients`."""
        del seed
        return self.patients(site)
