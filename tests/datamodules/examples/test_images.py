from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder
from datamodules.examples.example import Amount
from datamodules.examples.images import make, make_apart
from datamodules.phantoms.patient import Patient, render
from datamodules.phantoms.profiles import SHIFTS, profile
from lightning_fl.seeds import derive_seed

AMOUNT = Amount(sites=2, patients=3, size=32, slices=12)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together")
    assert list(make(root, AMOUNT)) == [f"{s}-{n:03d}" for s in "AB" for n in (1, 2, 3)]
    return root


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("apart")
    assert len(list(make_apart(root, AMOUNT))) == 6
    return root


def test_files_hold_the_phantoms(together: Path) -> None:
    patient = Patient(derive_seed(0, "B", "B-002"), 12, 32, profile("B", SHIFTS))
    image, mask = render(patient)[:, 4]
    stored = [
        np.asarray(Image.open(together / "B" / p / "B-002_05.png")) for p in ("images", "masks")
    ]
    assert np.array_equal(stored[0], image)
    assert np.array_equal(stored[1], 255 * mask)


def test_image_folder_reads_them(together: Path) -> None:
    data = ImageFolder(together)
    assert data.site_names() == ("A", "B")
    assert data.patients("A") == ("A-001", "A-002", "A-003")
    for site in "AB":
        data.for_site(site, 0).check()


def test_a_hospital_alone_has_the_same_files(together: Path, apart: Path) -> None:
    assert files(apart / "B" / "B") == files(together / "B")


def test_image_folder_reads_a_hospital_alone_as_among_others(together: Path, apart: Path) -> None:
    alone, among = (ImageFolder(root).for_site("B", 0) for root in (apart / "B", together))
    alone.check()
    assert alone.split("B") == among.split("B")
    one, other = (data.dataset("B", ("B-001",), augment=False)[3] for data in (alone, among))
    assert torch.equal(one["image"], other["image"])
    assert torch.equal(one["mask"], other["mask"])
