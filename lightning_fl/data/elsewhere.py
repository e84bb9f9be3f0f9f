"""The data of a federation whose coordinator has none of them."""

from collections.abc import Sequence
from typing import NoReturn

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.errors import ConfigError


class DataElsewhere(FederatedDataModule):
    """Stand at the coordinator for data that only the hospitals have.

    The coordinator cannot read what it does not have. It knows no more than names: `sites` are all
    hospitals, those in `unseen` included.
    """

    def __init__(self, sites: Sequence[str], unseen: Sequence[str] = ()) -> None:
        super().__init__(unseen=unseen)
        self.sites = tuple(sites)

    def site_names(self) -> tuple[str, ...]:
        """Return the names of the hospitals."""
        return self.sites

    def patients(self, site: str) -> NoReturn:
        """Refuse by a ConfigError, since the patients are not known here."""
        raise ConfigError(
            f"The data of {site!r} are at the hospital and not here, so what needs them cannot be "
            "done by the coordinator. Set `audit` to null and `directions` to [], or use the "
            "Local engine."
        )

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> NoReturn:
        """Refuse as `patients` does."""
        self.patients(site)

    def for_site(self, site: str, seed: int) -> NoReturn:
        """Refuse as `patients` does."""
        self.patients(site)
