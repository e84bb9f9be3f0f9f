"""Synthetic chest CT of several hospitals: the data that needs no download."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import SHIFTS, profile
from datamodules.phantoms.slice_cache import load
from lightning_fl.data.augmentation import augmented
from lightning_fl.data.module import POOLED, FederatedDataModule, Sample
from lightning_fl.errors import ConfigError
from lightning_fl.seeds import derive_seed

SMALLEST = 32
"""Image size in pixels below which lesions vanish."""


class ChestPhantoms(FederatedDataModule):
    """Chest CT slices with COVID-like lesions, generated for hospitals that differ.

    A patient is one anatomy in three dimensions, seen as several axial slices that share its
    lesions. The mask is 1 on infection. Patients depend on the seed, their hospital and their
    number only. So more hospitals or patients leave the others as they are. Another `shift` shows
    the same patients through other scanners or readers.

    Patients are made when first used and kept in `cache_dir`; about 0.2 s and 0.3 MB each.

    Args:
        sites: number of hospitals, named A to Z, then AA, AB and so on; or their names. A to F
            are designed to differ strongly, any other is drawn from its name.
        patients: patients of every hospital, or one number for each, repeated if there are more
            hospitals.
        slices: slices of a patient.
        size: width and height of a slice in pixels, at least 32.
        shift: in what the hospitals differ: "none", "full", or any of "scanner" (thickness,
            kernel, dose, calibration, window), "disease" (size, density and number of lesions)
            and "annotation" (what the reader marks).
        data_seed: seed of the patients; null takes the seed of the run.
        cache_dir: folder for generated patients; null is ~/.cache/lightning_fl/phantoms.
        **kwargs: settings of every datamodule, see `FederatedDataModule`.

    Raises:
        ConfigError: a setting is out of range or unknown.
    """

    def __init__(
        self,
        *,
        sites: int | Sequence[str] = 4,
        patients: int | Sequence[int] = (18, 12, 9, 7),
        slices: int = 8,
        size: int = 128,
        shift: str | Sequence[str] = "full",
        data_seed: int | None = None,
        cache_dir: str | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(**kwargs)
        self.names = _site_names(sites)
        self.counts = _patient_counts(patients, len(self.names))
        if slices < 1:
            raise ConfigError(f"Expected `slices` to be at least 1, but got {slices}.")
        if size < SMALLEST:
            raise ConfigError(f"Expected `size` to be at least {SMALLEST}, but got {size}.")
        self.slices = slices
        self.size = size
        self.shift = parse_shift(shift)
        self.data_seed = data_seed
        self.cache_dir = Path(cache_dir or "~/.cache/lightning_fl/phantoms").expanduser()

    def site_names(self) -> tuple[str, ...]:
        """Return the names of all hospitals."""
        return self.names

    def patients(self, site: str) -> tuple[str, ...]:
        """Return identifiers such as A-003."""
        count = self.counts[self.names.index(site)]
        return tuple(f"{site}-{number:03d}" for number in range(count))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return all slices of some patients, from top to bottom, patient by patient."""
        seed = self.seed if self.data_seed is None else self.data_seed
        seen_as = profile(site, self.shift)
        stacks = [
            Patient(derive_seed(seed, site, patient), self.slices, self.size, seen_as)
            for patient in patients
        ]
        return PhantomSlices(stacks, self.cache_dir, self.augment if augment else None)


class PhantomSlices(Dataset[Sample]):
    """Slices of phantoms, each read from the cache when asked for.

    Args:
        patients: the patients, all with the same number of slices.
        folder: the cache.
        transform: augmentation of image and mask, or None.
    """

    def __init__(
        self,
        patients: Sequence[Patient],
        folder: Path,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        self.patients = patients
        self.folder = folder
        self.transform = transform

    def __len__(self) -> int:
        return sum(patient.slices for patient in self.patients)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a slice from 0 to {len(self) - 1}, but got {index}.")
        number, level = divmod(index, self.patients[0].slices)
        image, mask = load(self.folder, self.patients[number])[:, level]
        sample = Sample(
            image=torch.from_numpy(image[None].astype(np.float32) / 255),
            mask=torch.from_numpy(mask.astype(np.int64)),
        )
        return sample if self.transform is None else augmented(sample, self.transform)


def parse_shift(shift: str | Sequence[str]) -> tuple[str, ...]:
    """Return the named shifts, each once and in a fixed order."""
    if isinstance(shift, str):
        shift = {"none": (), "full": SHIFTS}.get(shift, (shift,))
    unknown = [name for name in shift if name not in SHIFTS]
    if unknown:
        raise ConfigError(
            f"Unknown `shift` {', '.join(map(repr, unknown))}; expected 'none', 'full' or a list "
            f"of {', '.join(map(repr, SHIFTS))}."
        )
    return tuple(name for name in SHIFTS if name in shift)


def _site_names(sites: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(sites, int):
        if sites < 1:
            raise ConfigError(f"Expected `sites` to be at least 1, but got {sites}.")
        return tuple(_letters(number) for number in range(sites))
    names = (sites,) if isinstance(sites, str) else tuple(sites)
    if not names or len(set(names)) < len(names) or not all(names) or POOLED in names:
        raise ConfigError(
            f"Expected `sites` to be different names, none of them {POOLED!r}, "
            f"but got {list(names)}."
        )
    return names


def _letters(number: int) -> str:
    """Return A to Z for 0 to 25, then AA, AB and so on, as a spreadsheet names its columns."""
    head, tail = divmod(number, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + tail)


def _patient_counts(patients: int | Sequence[int], sites: int) -> tuple[int, ...]:
    counts = (patients,) if isinstance(patients, int) else tuple(patients)
    if not counts or min(counts) < 1:
        raise ConfigError(f"Expected `patients` to be at least 1 each, but got {patients}.")
    return tuple(counts[i % len(counts)] for i in range(sites))
