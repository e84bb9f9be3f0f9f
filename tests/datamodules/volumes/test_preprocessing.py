import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from datamodules.normalisation import Normalisation, SiteZScore, Window
from datamodules.targets import ClassNumbers, MaskMap, MaskTarget, Regions
from datamodules.volumes.preprocessing import VolumePreprocessing
from datamodules.volumes.scan_cache import ScanCache
from datamodules.volumes.slices import AXES
from lightning_fl.data.scans import from_settings
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.readers.scan_files import SPACING, write_nifti, write_series
from tests.datamodules.volumes.patients import SHAPE, TURNED, lesion, row_of, scan, write_patient

PREPARED = VolumePreprocessing(spacing=(1, 1, 2), shape=(18, 16, 12), neighbours=1)


def found(source: Path) -> list[str]:
    return [os.path.relpath(str(path), source) for path in PREPARED.find(source)]


@pytest.mark.parametrize("direction", AXES)
def test_images_equal_those_of_the_cache_bit_for_bit(tmp_path: Path, direction: str) -> None:
    folder = write_patient(tmp_path / "p")
    row = row_of(folder)
    prepared = VolumePreprocessing((1, 1, 2), (18, 16, 12), direction=direction)
    scan = ScanCache(tmp_path / "cache", prepared.grid, ClassNumbers(), Window()).add(row).load()
    images = prepared.read(row.images[0]).images()
    for index in range(scan.image.shape[1 + AXES[direction]]):
        slices = prepared.slicing.image(scan.image, index)
        assert torch.equal(images[index], Window().apply(slices, scan.measures))
    with pytest.raises(IndexError, match="from 0 to"):
        images[index + 1]


@pytest.mark.parametrize("direction", AXES)
def test_truth_that_goes_through_the_slices_comes_back(tmp_path: Path, direction: str) -> None:
    folder = write_patient(tmp_path / "p")
    prepared = VolumePreprocessing((0.35, 0.4, 1.25), (48, 40, 16), direction=direction)
    row = row_of(folder)
    grid = (
        ScanCache(tmp_path / "cache", prepared.grid, ClassNumbers(), Window()).add(row).load().mask
    )
    slices = [prepared.slicing.mask(grid, i) for i in range(grid.shape[AXES[direction]])]
    probabilities = torch.stack(slices)[:, None].float()
    volume = prepared.read(row.images[0])
    again = volume.mask(volume.assemble([probabilities[:5], probabilities[5:]]), threshold=0.5)
    # half the spacing: each of the scan's voxels is a whole number of the grid's
    np.testing.assert_array_equal(again, lesion() > 0)
    np.testing.assert_array_equal(again, volume.read_mask(folder / "mask.nii.gz"))


def test_threshold_is_of_one_class_and_several_are_compared(tmp_path: Path) -> None:
    volume = PREPARED.read(write_nifti(tmp_path / "x.nii", scan(0), TURNED))
    grid = torch.full((1, 18, 16, 12), 0.3)
    assert volume.mask(grid, threshold=0.2).all()
    assert not volume.mask(grid, threshold=0.4).any()
    three = torch.stack([grid[0], grid[0] - 0.1, grid[0] + 0.1])
    assert (volume.mask(three, threshold=0.9) == 2).all()


def test_masks_are_saved_in_the_space_of_the_scan(tmp_path: Path) -> None:
    volume = PREPARED.read(write_nifti(tmp_path / "x.nii", scan(0), TURNED))
    mask = (lesion() > 0).astype(np.uint8)
    volume.save(mask, tmp_path / "out.nii.gz")
    saved = nib.load(tmp_path / "out.nii.gz")
    assert isinstance(saved, nib.Nifti1Image)
    np.testing.assert_allclose(saved.affine, TURNED)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), mask)
    assert volume.spacing == pytest.approx(SPACING)


def test_pictures_are_front_up_with_the_patients_right_on_the_left(tmp_path: Path) -> None:
    hu = np.full(SHAPE, -1000, dtype=np.int16)  # RAS+: X to the right, Y to the front
    hu[-1, -1, 5] = 500
    path = write_nifti(tmp_path / "x.nii", hu, np.diag([*SPACING, 1.0]))
    volume = VolumePreprocessing(normalise=Window(0, 2000)).read(path)
    expected = torch.zeros(1, SHAPE[1], SHAPE[0])
    expected[0, 0, 0] = 0.75
    assert torch.equal(volume.picture(5), expected)
    axial = volume.axial((hu > 0).astype(np.uint8))
    assert np.argwhere(axial).tolist() == [[5, 0, 0]]


def test_axial_slices_of_a_turned_scan_are_in_the_patients_order(tmp_path: Path) -> None:
    volume = PREPARED.read(write_nifti(tmp_path / "x.nii", scan(0), TURNED))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[0, -1, -1] = 1  # rightmost, foremost, lowest
    assert np.argwhere(volume.axial(mask)).tolist() == [[0, 0, 0]]


def test_find_takes_a_file_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "any.nii").touch()
    assert PREPARED.find(tmp_path / "any.nii") == (tmp_path / "any.nii",)


def test_find_takes_the_ct_of_a_patient_and_of_every_patient(tmp_path: Path) -> None:
    for name in ("p2", "p1"):
        write_patient(tmp_path / name)
    (tmp_path / "p3" / "ct").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert found(tmp_path) == ["p1/ct.nii.gz", "p2/ct.nii.gz", "p3/ct"]
    assert found(tmp_path / "p1") == ["ct.nii.gz"]


def test_find_takes_every_nifti_file_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.nii", "c.txt", ".hidden.nii"):
        (tmp_path / name).touch()
    assert found(tmp_path) == ["a.nii", "b.nii.gz"]


def test_find_takes_a_series_and_a_folder_of_series(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / name, scan(0)[..., :2])
    assert PREPARED.find(tmp_path / "one") == (tmp_path / "one",)
    assert found(tmp_path) == ["one", "two"]
    assert PREPARED.read(tmp_path / "one").name == "one"


@pytest.mark.parametrize("beside", ["scan.nii", "series/1.dcm"])
def test_find_refuses_to_guess_among_several_kinds(beside: str, tmp_path: Path) -> None:
    write_patient(tmp_path / "p1")
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).touch()
    with pytest.raises(DataError, match=r"several kinds.*p1.* beside .*(scan\.nii|series)"):
        PREPARED.find(tmp_path)


def test_find_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no scan; expected files .*, a DICOM series"):
        PREPARED.find(tmp_path)
    with pytest.raises(DataError, match=r"There is no .*gone"):
        PREPARED.find(tmp_path / "gone")
    for name in ("ct.nii", "ct.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"more than one scan: ct\.nii\.gz and ct\.nii; name one"):
        PREPARED.find(tmp_path)


def test_scan_is_called_by_its_file_or_by_its_patient(tmp_path: Path) -> None:
    write_patient(tmp_path / "p7")
    write_nifti(tmp_path / "Case.1.nii.gz", scan(0))
    assert PREPARED.read(tmp_path / "p7" / "ct.nii.gz").name == "p7"
    assert PREPARED.read(tmp_path / "Case.1.nii.gz").name == "Case.1"


@pytest.mark.parametrize(
    ("modality", "normalise", "target"),
    [
        ("CT", Window(-500, 1400), Regions({"whole": (1, 2), "core": (2,)})),
        ("MR", SiteZScore((1.5, 2.5), (3.5, 4.5)), MaskMap({0: 0, 128: 1}, (255,))),
    ],
)
def test_settings_survive_a_yaml_file(
    modality: Any, normalise: Normalisation, target: MaskTarget
) -> None:
    prepared = VolumePreprocessing(
        (1, 2, 3.5), (32, 64, 96), "coronal", 5, target, modality, normalise, ("lung",)
    )
    stored = yaml.safe_load(yaml.safe_dump(prepared.to_settings()))
    assert stored["class_path"] == "datamodules.volumes.preprocessing.VolumePreprocessing"
    assert from_settings(stored) == prepared


def test_stored_settings_build_no_function() -> None:
    stored = PREPARED.to_settings()
    stored["init_args"]["target"] = {"class_path": "os.system", "init_args": {"command": "exit 1"}}
    with pytest.raises(ConfigError, match=r"os\.system is none"):
        from_settings(stored)


def test_impossible_settings_of_grid_and_slices_are_found_at_once() -> None:
    with pytest.raises(ConfigError, match="`spacing`"):
        VolumePreprocessing(spacing=(0, 1, 1))
    with pytest.raises(ConfigError, match="Unknown `direction` 'up'"):
        VolumePreprocessing(direction="up")
