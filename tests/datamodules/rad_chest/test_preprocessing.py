from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.rad_chest.preprocessing import RadPreprocessing
from datamodules.volumes.grid import SLAB
from lightning_fl.data.scans import from_settings
from lightning_fl.errors import ConfigError, DataError
from tests.datamodules.rad_chest.npz_volumes import save, volume


def lung(size: int = 8, thickness: int = 1) -> RadPreprocessing:
    return RadPreprocessing(size, -400, 1200, thickness)


def rescale(folder: Path, array: np.ndarray, size: int) -> np.ndarray:
    return lung(size).cube(save(folder / "scan.npz", ct=array.astype(np.int16)))


def test_a_cube_of_the_right_size_stays_as_it_is(tmp_path: Path) -> None:
    cube = volume(1, (12, 12, 12))
    np.testing.assert_array_equal(rescale(tmp_path, cube, 12), cube)


def test_halving_is_a_triangle_mean_along_each_axis(tmp_path: Path) -> None:
    for axis in range(3):
        ramp = np.broadcast_to(
            np.arange(0, 160, 10).reshape([16 if a == axis else 1 for a in range(3)]), (16, 16, 16)
        )
        found = rescale(tmp_path, ramp, 8)
        inner = np.moveaxis(found, axis, 0)[1:-1]
        np.testing.assert_array_equal(inner[:, 0, 0], np.arange(25, 145, 20))
        assert (found.std(axis=tuple(a for a in range(3) if a != axis)) == 0).all()


def test_single_voxels_are_not_skipped(tmp_path: Path) -> None:
    dots = np.full((40, 40, 40), -1000, dtype=np.int16)
    dots[::8, 3, 5] = 1000
    assert (rescale(tmp_path, dots, 10) > -1000).any()


def test_slabs_do_not_show(tmp_path: Path) -> None:
    tall = volume(2, (3 * SLAB + 5, 9, 11))
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(tall.astype(np.float32))[None], (8, 8), mode="bilinear", antialias=True
    )[0]
    columns = torch.nn.functional.interpolate(
        whole.reshape(1, 1, len(tall), 64), (8, 64), mode="bilinear", antialias=True
    )
    found = rescale(tmp_path, tall, 8).reshape(8, 64)
    np.testing.assert_array_equal(found, columns[0, 0].round().numpy())


@pytest.mark.parametrize(
    ("thickness", "expected"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, [0, 0, 0, 2, 5, 0, 0, 0]),  # the means of 1, 2, 3 and of 4, 5, 6
    ],
)
def test_thick_slices_are_means_of_neighbours(thickness: int, expected: list[int]) -> None:
    slices = np.broadcast_to(np.arange(8, dtype=np.int16)[:, None, None], (8, 8, 8))
    image = RadPreprocessing(8, level=5, width=10, thickness=thickness).image(slices)
    torch.testing.assert_close(image[0, :, 0, 0] * 10, torch.tensor(expected).float())


def test_window_goes_from_0_to_1() -> None:
    cube = np.zeros((8, 8, 8), dtype=np.int16)
    cube[0, 0, :5] = [-1024, -1000, -400, 200, 900]
    found = lung().image(cube)
    assert found.shape == (1, 8, 8, 8)
    assert found.dtype == torch.float32
    assert found[0, 0, 0, :5].tolist() == [0, 0, 0.5, 1, 1]


def test_slices_are_averaged_in_hu_and_padded_with_air() -> None:
    cube = np.full((8, 8, 8), -1000, dtype=np.int16)
    cube[::2] = 1400  # beyond the window, whose mean with air would be 0.5 if it were cut first
    found = lung(thickness=4).image(cube)[0, :, 0, 0]
    assert found.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_find_takes_a_file_or_a_folder(tmp_path: Path) -> None:
    paths = [save(tmp_path / name, ct=volume(1)) for name in ("b.npz", "a.npz")]
    (tmp_path / "metadata.csv").write_text("x\n")
    assert lung().find(paths[0]) == (paths[0],)
    assert lung().find(tmp_path) == (tmp_path / "a.npz", tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"metadata\.csv is no \.npz file, nor a folder"):
        lung().find(tmp_path / "metadata.csv")


def test_a_read_scan_is_one_image(tmp_path: Path) -> None:
    scan = lung().read(save(tmp_path / "trn1.npz", ct=volume(1)))
    assert scan.name == "trn1"
    images = scan.images()
    assert len(images) == 1  # type: ignore[arg-type]  # torch's Dataset does not declare __len__
    assert images[0].shape == (1, 8, 8, 8)


def test_settings_come_back_from_a_file() -> None:
    assert from_settings(lung(thickness=5).to_settings()) == lung(thickness=5)


@pytest.mark.parametrize("thickness", [0, 9])
def test_thickness_out_of_range(thickness: int) -> None:
    with pytest.raises(ConfigError, match=f"between 1 and 8.* got {thickness}"):
        lung(thickness=thickness)
