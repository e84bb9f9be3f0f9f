from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torchvision.transforms import v2

from datamodules import ChestPhantoms
from datamodules.phantoms.chest_phantoms import PhantomSlices
from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.errors import ConfigError

SMALL: dict[str, Any] = {"sites": 3, "patients": (5, 4), "slices": 4, "size": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantoms")


def make(folder: Path, **settings: Any) -> ChestPhantoms:
    return ChestPhantoms(**{**SMALL, "cache_dir": str(folder), **settings})


def stack(data: ChestPhantoms, site: str, patients: Sequence[str]) -> tuple[Tensor, Tensor]:
    dataset = data.dataset(site, patients, augment=False)
    assert isinstance(dataset, PhantomSlices)
    samples: list[Sample] = [dataset[i] for i in range(len(dataset))]
    return torch.stack([s["image"] for s in samples]), torch.stack([s["mask"] for s in samples])


def test_samples_are_grey_images_with_binary_masks(folder: Path) -> None:
    images, masks = stack(make(folder), "B", ["B-000", "B-001"])
    assert images.shape == (8, 1, 48, 48)
    assert masks.shape == (8, 48, 48)
    assert images.dtype == torch.float32
    assert masks.dtype == torch.int64
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(masks.flatten().tolist()) == {0, 1}


def test_same_seed_gives_same_pixels(folder: Path, tmp_path: Path) -> None:
    one, two = make(folder).for_site("A", 3), make(tmp_path).for_site("A", 3)
    for a, b in zip(stack(one, "A", ["A-000"]), stack(two, "A", ["A-000"]), strict=True):
        assert torch.equal(a, b)


def test_seed_of_the_run_decides_patients_unless_data_seed_is_set(folder: Path) -> None:
    def image(data_seed: int | None, seed: int) -> Tensor:
        bound = make(folder, data_seed=data_seed).for_site("A", seed)
        return stack(bound, "A", ["A-000"])[0]

    assert not torch.equal(image(None, 1), image(None, 2))
    assert torch.equal(image(7, 1), image(7, 2))
    assert torch.equal(image(None, 7), image(7, 1))


def test_sites_and_patients_differ_even_without_shift(folder: Path) -> None:
    data = make(folder, shift="none")
    images = [stack(data, p[0], [p])[0] for p in ("A-000", "A-001", "B-000")]
    assert all(not torch.equal(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_more_sites_and_patients_change_no_other_patient(folder: Path, tmp_path: Path) -> None:
    few, many = make(folder), make(tmp_path, sites=["X", "B", "A"], patients=9)
    for a, b in zip(stack(few, "B", ["B-002"]), stack(many, "B", ["B-002"]), strict=True):
        assert torch.equal(a, b)


def test_patient_counts_are_repeated_over_the_sites() -> None:
    data = ChestPhantoms(sites=3, patients=(5, 4))
    assert [len(data.patients(site)) for site in data.site_names()] == [5, 4, 5]


def test_site_names_continue_after_z_as_in_a_spreadsheet() -> None:
    names = ChestPhantoms(sites=54).site_names()
    assert (names[0], names[25], names[26], names[53]) == ("A", "Z", "AA", "BB")


def test_split_keeps_patients_apart(folder: Path) -> None:
    split = make(folder).for_site("A", 0).split("A")
    everyone = split.train + split.val + split.test
    assert len(everyone) == len(set(everyone)) == 5


def test_loaders_and_pooled_data_work(folder: Path) -> None:
    data = make(folder, batch_size=3)
    batch = next(iter(data.for_site("B", 0).train_loader(seed=1, batches_per_step=2)))
    assert batch["image"].shape == (6, 1, 48, 48)
    assert data.for_site("pooled", 0).sample_count("val") == 3 * 4


def test_augmentation_is_for_training_only(folder: Path) -> None:
    data = make(folder, augment=v2.RandomHorizontalFlip(p=1.0))
    plain = data.dataset("A", ["A-000"], augment=False)
    flipped = data.dataset("A", ["A-000"], augment=True)
    assert torch.equal(flipped[2]["image"], plain[2]["image"].flip(-1))
    assert torch.equal(flipped[2]["mask"], plain[2]["mask"].flip(-1))


def test_index_out_of_range_is_refused(folder: Path) -> None:
    dataset = make(folder).dataset("A", ["A-000"], augment=False)
    with pytest.raises(IndexError, match="from 0 to 3, but got 4"):
        dataset[4]


def test_building_makes_no_patient(tmp_path: Path) -> None:
    make(tmp_path / "cache").dataset("A", ["A-000"], augment=False)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": "scaner"}, "Unknown `shift` 'scaner'; expected 'none', 'full' .*'annotation'"),
        ({"shift": ["scanner", "full"]}, "Unknown `shift` 'full'"),
        ({"sites": 0}, "`sites` to be at least 1, but got 0"),
        ({"sites": ["A", "A"]}, "different names"),
        ({"sites": ["A", "pooled"]}, "none of them 'pooled'"),
        ({"patients": 0}, "`patients` to be at least 1 each, but got 0"),
        ({"patients": []}, "`patients` to be at least 1 each"),
        ({"slices": 0}, "`slices` to be at least 1, but got 0"),
        ({"size": 31}, "`size` to be at least 32, but got 31"),
        ({"batch_size": 0}, "`batch_size` to be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ChestPhantoms(**settings)


def test_command_line_reaches_own_and_inherited_settings() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(FederatedDataModule, "data")
    given = parser.parse_args(
        [
            "--data=datamodules.ChestPhantoms",
            "--data.sites=[A, Mainz]",
            "--data.shift=[annotation, scanner]",
            "--data.patients=5",
            "--data.batch_size=2",
        ]
    )
    data = parser.instantiate(given).data
    assert (data.site_names(), data.shift) == (("A", "Mainz"), ("scanner", "annotation"))
    assert (data.patients("Mainz")[-1], data.batch_size) == ("Mainz-004", 2)
