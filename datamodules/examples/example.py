"""What makers of example data have in common."""

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_fl.errors import ConfigError
from lightning_fl.seeds import derive_seed

LEAST = {"sites": 1, "patients": 3, "size": 32, "slices": 12}
"""Three patients can be split into training, validation and test. Lesions vanish in less than 32
pixels, and between fewer than 12 slices."""
LETTERS = string.ascii_uppercase
"""Names of the sites."""


@dataclass(frozen=True)
class Amount:
    """How much is made.

    Attributes:
        sites: number of hospitals.
        patients: patients of each hospital.
        size: width and height of a slice in pixels.
        slices: slices of a volume.
        seed: seed of the patients; the same seed makes the same files.

    Raises:
        ConfigError: one of them is too small, or there are too many hospitals.
    """

    sites: int
    patients: int
    size: int
    slices: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"Expected `{name}` to be at least {least}, but got {value}.")
        most = len(LETTERS)
        if self.sites > most:
            raise ConfigError(f"Expected `sites` to be at most {most}, but got {self.sites}.")

    @property
    def site_names(self) -> str:
        """Names of the hospitals, a letter each."""
        return LETTERS[: self.sites]

    def patients_of(self, site: str) -> Iterator[tuple[str, int]]:
        """Yield name and seed of each patient of a hospital."""
        for number in range(1, self.patients + 1):
            name = f"{site}-{number:03d}"
            yield name, derive_seed(self.seed, site, name)


Make = Callable[[Path, Amount], Iterator[str]]


@dataclass(frozen=True)
class ExampleData:
    """The example data of one task.

    Attributes:
        configs: what trains on them: the task's config, and the override for small data.
        amount: what is made unless more is asked for.
        make: writes them into an empty folder; yields each patient's name once it is written,
            `sites * patients` times.
        make_apart: writes a root for each hospital, named as the hospital; None where one file
            describes all hospitals.
        recipe: whether docs/recipes.md has the data's settings; else their root is all there is.
    """

    configs: tuple[str, ...]
    amount: Amount
    make: Make
    make_apart: Make | None = None
    recipe: bool = False


def claim(folder: Path) -> None:
    """Make the folder or take an empty one; raise a ConfigError if something is in the way."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder that is new or empty.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty, and nothing in it is replaced; name a folder that is new or "
            "empty."
        )
    folder.mkdir(parents=True, exist_ok=True)
