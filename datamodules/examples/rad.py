"""RAD-ChestCT: one .npz a volume, and a table of all of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from datamodules.examples.example import Amount, ExampleData
from datamodules.examples.phantom_volume import PhantomVolume, phantom_volume
from datamodules.examples.rad_metadata import COLUMNS, MACHINES, Machine, Row, metadata
from datamodules.phantoms.lesions import Disease
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import REFERENCE
from lightning_fl.files import write_csv
from lightning_fl.seeds import derive_seed

TABLE = "metadata.csv"
LARGEST = 1000
"""Hounsfield units beyond which, up or down, the volumes of RAD-ChestCT are cut off."""
RETURNS = 4
"""Every so manyth patient has a second scan."""

HEALTHY = Disease(healthy=1.0)
DISEASED = Disease(lesions=(3, 5), radius=(38.0, 54.0), consolidated=0.8)
"""Lesions that are still seen when a volume is scaled down to 32 voxels a side."""


def make(folder: Path, amount: Amount) -> Iterator[str]:
    """Write the volumes `folder/trn00001.npz` and so on, and at the end `folder/metadata.csv`.

    The volumes are not resampled to 0.8 mm, as those of RAD-ChestCT are, which would make them
    large. Half of the patients of every client have lesions.
    """
    rows: list[Row] = []
    for client in range(1, amount.sites + 1):
        machine = MACHINES[(client - 1) % len(MACHINES)]
        diseased = _diseased(amount, client)
        for number in range(amount.patients):
            mrn = f"mrn{(client - 1) * amount.patients + number + 1:05d}"
            patient = _patient(amount, mrn, machine, sick=number in diseased)
            for visit in range(2 if number % RETURNS == RETURNS - 1 else 1):
                name = f"trn{len(rows) + 1:05d}"
                volume = phantom_volume(patient, visit)
                write_volume(folder / f"{name}.npz", volume)
                rows.append(metadata(name, mrn, client, machine, volume))
            yield mrn
    write_csv(folder / TABLE, COLUMNS, ([row[column] for column in COLUMNS] for row in rows))


def write_volume(path: Path, volume: PhantomVolume) -> None:
    """Write int16 Hounsfield units of shape (slices, height, width), the first nearest the head."""
    np.savez_compressed(path, ct=np.clip(volume.hu, -LARGEST, LARGEST))


def _diseased(amount: Amount, client: int) -> set[int]:
    """Draw which patients of a client are diseased."""
    rng = np.random.default_rng(derive_seed(amount.seed, client, "diseased"))
    return set(rng.permutation(amount.patients)[: amount.patients // 2].tolist())


def _patient(amount: Amount, mrn: str, machine: Machine, sick: bool) -> Patient:
    disease = DISEASED if sick else HEALTHY
    seen_as = replace(REFERENCE, scanner=machine.scanner, disease=disease)
    return Patient(derive_seed(amount.seed, mrn), amount.slices, amount.size, seen_as)


CONFIGS = ("configs/rad_chestct.yaml", "configs/overrides/tiny_rad.yaml")
RAD = ExampleData(CONFIGS, Amount(sites=3, patients=12, size=64, slices=48), make)
