import logging
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from torchvision.transforms import v2

from datamodules import CTFolder
from datamodules.volumes.slices import AXES, ROWS_AND_COLUMNS, Slicing
from lightning_fl.data.module import FederatedDataModule, Sample
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.readers.scan_files import write_nifti
from tests.datamodules.volumes.patients import (
    SHAPE,
    TURNED,
    ct_folder,
    lesion,
    scan,
    write_hospitals,
    write_patient,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_hospitals(tmp_path)


def every(data: CTFolder, patients: Iterable[str], site: str = "A") -> list[Sample]:
    slices: Any = data.dataset(site, list(patients), augment=False)
    return [slices[i] for i in range(len(slices))]


def test_sample_is_the_windowed_slice_and_its_mask(root: Path) -> None:
    data = ct_folder(root, spacing=(0.7, 0.8, 2.5), shape=SHAPE, level=-500, width=1000)
    samples = every(data, ["p0"])
    assert len(samples) == SHAPE[2]
    ras = scan(0)[::-1, :, ::-1].astype(np.float32)
    expected = np.clip((ras[::-1, ::-1, [1, 2, 3]] + 1000) / 1000, 0, 1).transpose(2, 1, 0)
    torch.testing.assert_close(samples[2]["image"], torch.from_numpy(expected.copy()))
    mask = (lesion()[::-1, :, ::-1] > 0).astype(np.int64)
    for index, sample in enumerate(samples):
        assert torch.equal(sample["mask"], torch.from_numpy(mask[::-1, ::-1, index].T.copy()))


@pytest.mark.parametrize("direction", AXES)
def test_slices_in_the_padding_are_left_out_but_assembled(root: Path, direction: str) -> None:
    data = ct_folder(root, direction=direction, spacing=(1, 1, 2), shape=(32, 32, 16))
    # 16.8 x 16 x 20 mm are 17, 16 and 10 voxels
    assert len(every(data, ["p0"])) == {"axial": 10, "coronal": 16, "sagittal": 17}[direction]
    volume = data.preprocessing("A").read(root / "A/p0/ct.nii.gz")
    length = (32, 32, 16)[AXES[direction]]
    assert len(volume.images()) == length  # type: ignore[arg-type]
    plane = [(32, 32, 16)[axis] for axis in ROWS_AND_COLUMNS[direction]]
    assert volume.assemble([torch.zeros(length, 2, *plane)]).shape == (2, 32, 32, 16)


def test_every_direction_sees_the_same_voxels(root: Path) -> None:
    grids = []
    for direction in AXES:
        data = ct_folder(root, direction=direction, neighbours=1, shape=(16, 16, 10))
        samples = every(data, ["p1"])
        slicing = Slicing(direction)
        images = torch.stack([sample["image"] for sample in samples])
        masks = torch.stack([sample["mask"][None].float() for sample in samples])
        grids.append((slicing.assemble([images]), slicing.assemble([masks])))
    for image, mask in grids[1:]:
        assert torch.equal(image, grids[0][0])
        assert torch.equal(mask, grids[0][1])
    assert len(list((root / ".cache").iterdir())) == 3  # of one grid for all directions


def test_second_epoch_reads_no_source_file(root: Path) -> None:
    data = ct_folder(root).for_site("A", 0)
    first = [batch["image"] for batch in data.loader("val")]
    for path in root.rglob("*.nii.gz"):
        path.unlink()
    again = [batch["image"] for batch in data.loader("val")]
    assert torch.equal(torch.cat(first), torch.cat(again))


def test_dataset_is_loaded_lazily_and_survives_pickle(root: Path) -> None:
    slices: Any = ct_folder(root).dataset("A", ["p0"], augment=False)
    assert not list((root / ".cache").iterdir())
    copied = pickle.loads(pickle.dumps(slices))
    assert torch.equal(copied[3]["image"], slices[3]["image"])
    with pytest.raises(IndexError, match="from 0 to 9, but got 10"):
        slices[10]


def test_train_slices_lesion_takes_as_many_without(root: Path) -> None:
    data = ct_folder(root, spacing=(0.7, 0.8, 2.5), shape=SHAPE, train_slices="lesion")
    bound = data.for_site("A", 0)
    split = bound.split("A")
    assert bound.sample_count("train") == 6 * len(split.train)
    assert bound.sample_count("val") == 8 * len(split.val)
    assert bound.sample_count("test") == 8 * len(split.test)
    # 4 to 6 have a lesion; of the other five, each from the middle of a third
    slices: Any = bound.dataset("A", split.train[:1], augment=False)
    assert slices.table == [(0, index) for index in (0, 2, 4, 5, 6, 7)]


def test_scores_of_training_patients_are_of_all_slices(root: Path) -> None:
    bound = ct_folder(root, shape=(16, 16, 10), train_slices="lesion").for_site("A", 0)
    patients = bound.split("A").train[:2]
    assert sum(len(batch["image"]) for batch in bound.patient_loader(patients)) == 2 * 10


@pytest.mark.parametrize(
    ("direction", "size"), [("axial", (2, 1)), ("coronal", (3, 1)), ("sagittal", (3, 2))]
)
def test_pixels_have_the_edges_of_the_grid(
    root: Path, direction: str, size: tuple[int, int]
) -> None:
    assert ct_folder(root, spacing=(1, 2, 3), direction=direction).pixel_size("A") == size


def test_patient_without_lesion_keeps_one_slice(tmp_path: Path) -> None:
    for number in range(3):
        write_patient(tmp_path / "A" / f"p{number}", number, np.zeros(SHAPE, dtype=np.uint8))
    bound = ct_folder(tmp_path, train_slices="lesion").for_site("A", 0)
    assert bound.sample_count("train") == 1


def test_augmentation_moves_image_and_mask_of_training_only(root: Path) -> None:
    bound = ct_folder(root, augment=v2.RandomHorizontalFlip(p=1.0)).for_site("A", 0)
    patients = bound.split("A").train
    plain: Any = bound.dataset("A", patients, augment=False)
    turned: Any = bound.dataset("A", patients, augment=True)
    for name in ("image", "mask"):
        assert torch.equal(turned[4][name], plain[4][name].flip(-1))


def test_pictures_show_the_slice_that_is_predicted(root: Path) -> None:
    images = torch.arange(10.0).reshape(2, 5, 1, 1)
    shown: Tensor = ct_folder(root, neighbours=5).pictures(images)
    assert shown.flatten().tolist() == [2, 7]
    assert shown.shape == (2, 1, 1, 1)


def test_scans_name_the_files(root: Path) -> None:
    [files] = ct_folder(root).scans("B", ["p3"])
    assert files.name == "p3"
    assert files.image == root / "B/p3/ct.nii.gz"
    assert files.mask == root / "B/p3/mask.nii.gz"


def write_fold_file(root: Path) -> Path:
    rows = [f"{site},p{n},{n % 2}" for site in "AB" for n in range(5)]
    path = root / "folds.csv"
    path.write_text("\n".join(["site,patient,fold", *rows]) + "\n")
    return path


@pytest.mark.parametrize(("fold", "expected"), [(0, {"p0", "p2", "p4"}), (1, {"p1", "p3"})])
def test_fold_file_decides_who_is_tested(root: Path, fold: int, expected: set[str]) -> None:
    path = write_fold_file(root)
    for seed in (0, 1):
        data = ct_folder(root, fold_file=path, folds=2, fold=fold).for_site("A", seed)
        split = data.split("A")
        assert set(split.test) == expected
        assert set(split.train + split.val) == {f"p{n}" for n in range(5)} - expected


def test_without_fold_file_folds_are_by_chance_and_cover_everybody(root: Path) -> None:
    tested = [
        patient
        for fold in range(5)
        for patient in ct_folder(root, folds=5, fold=fold).for_site("A", 3).split("A").test
    ]
    assert sorted(tested) == [f"p{n}" for n in range(5)]


def test_fold_file_without_folds_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"`fold_file` is .*, but `folds` is null"):
        ct_folder(root, fold_file=write_fold_file(root))


def test_fold_that_no_patient_of_a_site_has_names_the_site(root: Path) -> None:
    data = ct_folder(root, fold_file=write_fold_file(root), folds=3, fold=2)
    with pytest.raises(DataError, match=r"Site 'B' has no patient in fold 2 of .*leave the site"):
        data.split("B")


def test_fold_file_that_misses_a_patient_is_refused(root: Path) -> None:
    path = write_fold_file(root)
    write_patient(root / "B" / "new")
    with pytest.raises(DataError, match=r"folds\.csv has no row for 'new' of site 'B'; add one"):
        ct_folder(root, fold_file=path, folds=2)


def test_too_few_patients_for_a_split_name_the_site(tmp_path: Path) -> None:
    for site, count in (("A", 3), ("B", 2)):
        for number in range(count):
            write_patient(tmp_path / site / f"p{number}")
    data = ct_folder(tmp_path)
    assert len(data.split("A").train) == 1
    with pytest.raises(DataError, match="Site 'B' has 2 patients, but its split needs at least 3"):
        data.for_site("B", 0).check()


def test_check_fills_the_cache_of_its_site_only(root: Path) -> None:
    ct_folder(root).for_site("B", 0).check()
    assert len(list((root / ".cache").iterdir())) == 4 * 5
    ct_folder(root).check()
    assert len(list((root / ".cache").iterdir())) == 4 * 10


def test_check_warns_of_impossible_numbers_also_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_patient(tmp_path / "A" / f"p{number}", number)
    shifted = np.full(SHAPE, 5000, dtype=np.int16)
    shifted[0] = -1000
    write_nifti(tmp_path / "A" / "p1" / "ct.nii.gz", shifted, TURNED)
    for _ in range(2):  # two runs, each in a process of its own
        monkeypatch.setattr("datamodules.normalisation.oddities._reported", {})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            ct_folder(tmp_path).check()
        [message] = caplog.messages
        assert (
            f"0 of {shifted.size} voxels lie below -1100 HU and {shifted.size - 160} above"
            in message
        )
        assert "p1" in message


def test_check_warns_of_lesions_outside_the_grid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mask = lesion()
    mask[6:14, 5:15, 7] = 255  # the last slice, beside three others
    for number in range(3):
        write_patient(tmp_path / "A" / f"p{number}", 0, mask if number == 1 else None)
    data = ct_folder(tmp_path, spacing=(1, 1, 2.5), shape=(32, 32, 6)).for_site("A", 0)
    with caplog.at_level(logging.WARNING):
        data.check()
    [message] = caplog.messages
    assert "Site 'A', patient 'p1': 80 of 320 lesion voxels (25.0 %)" in message
    assert "Enlarge `shape` or `spacing`" in message


def test_check_names_a_damaged_file(root: Path) -> None:
    path = root / "A/p2/ct.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=re.escape(str(path))):
        ct_folder(root).for_site("A", 0).check()
    ct_folder(root).for_site("B", 0).check()


def test_settings_that_cannot_work_are_found_when_built(root: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"direction": "z"}, "'axial', 'coronal', 'sagittal'"),
        ({"train_slices": "some"}, "'all' or 'lesion', but got 'some'"),
        ({"sites": ["C"]}, r"there are \['A', 'B'\]"),
        ({"classes": 0}, "`classes`"),
    ]
    for settings, message in wrong:
        with pytest.raises(ConfigError, match=message):
            ct_folder(root, **settings)


def test_built_from_yaml_values(root: Path) -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(FederatedDataModule, "data")
    init = {"root": str(root), "spacing": [1, 1.5, 2], "shape": [16, 16, 16], "sites": ["B"]}
    config = parser.parse_object(
        {"data": {"class_path": "datamodules.CTFolder", "init_args": init}}
    )
    data = parser.instantiate(config).data
    assert isinstance(data, CTFolder)
    assert data.site_names() == ("B",)
    assert data.preprocessing("B").spacing == (1, 1.5, 2)
