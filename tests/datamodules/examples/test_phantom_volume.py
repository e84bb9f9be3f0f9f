from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from datamodules.examples import phantom_volume as module
from datamodules.examples.phantom_volume import PhantomVolume, phantom_volume
from datamodules.phantoms.geometry import image_space
from datamodules.phantoms.lesions import Disease
from datamodules.phantoms.patient import Patient
from datamodules.phantoms.profiles import REFERENCE, Profile
from datamodules.phantoms.scanner import Scanner

SEED = 3


def scanned(
    slices: int = 20, size: int = 48, seen_as: Profile = REFERENCE, visit: int = 0
) -> PhantomVolume:
    return phantom_volume(Patient(SEED, slices, size, seen_as), visit)


def centre(volume: PhantomVolume) -> npt.NDArray[np.float64]:
    """Of the infection, in mm to the right, to the front and to the head."""
    index = np.argwhere(volume.mask).mean(axis=0)
    position: npt.NDArray[np.float64] = volume.affine[:3, :3] @ index + volume.affine[:3, 3]
    return position


def test_volume_has_true_units_and_a_place_for_every_voxel() -> None:
    volume = scanned()
    assert volume.hu.shape == volume.mask.shape == volume.lung.shape == (20, 48, 48)
    types = [array.dtype.name for array in (volume.hu, volume.mask, volume.lung)]
    assert types == ["int16", "uint8", "bool"]
    assert volume.spacing == pytest.approx((160 / 20, 345 / 48, 345 / 48))
    assert np.unique(volume.mask).tolist() == [0, 1]
    assert -1050 < np.median(volume.hu[:, 0, 0]) < -950
    assert 150 < volume.hu.max() < 900


def test_affine_gives_the_positions_that_the_phantom_was_drawn_at() -> None:
    levels = np.array([20 - 76 + 8 * 5], dtype=np.float32)  # slice 5 of 20, 8 mm apart around 20
    space = image_space(levels, 48)
    expected = [-space.x[0, 0, 30], -space.y[0, 11, 0], -space.z[0, 0, 0]]
    position = scanned().affine @ [5, 11, 30, 1]
    np.testing.assert_allclose(position[:3], expected, atol=1e-4)


def test_lesions_are_denser_than_the_lung_around_them() -> None:
    volume = scanned()
    wide = ndimage.binary_dilation(volume.mask, iterations=4)
    near = wide & ~ndimage.binary_dilation(volume.mask, iterations=2) & volume.lung
    assert near.sum() > 50
    assert np.median(volume.hu[volume.mask > 0]) > np.median(volume.hu[near]) + 200


@pytest.mark.parametrize(("slices", "size"), [(40, 48), (31, 48), (20, 64)])
def test_other_grids_show_the_same_lesions_in_the_same_place(slices: int, size: int) -> None:
    usual, other = scanned(), scanned(slices, size)
    np.testing.assert_allclose(centre(other), centre(usual), atol=4)
    volumes = [v.mask.sum() * np.prod(v.spacing) for v in (usual, other)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.12)


def test_scanner_changes_neither_mask_nor_lung() -> None:
    usual = scanned()
    other = scanned(seen_as=replace(REFERENCE, scanner=Scanner(thickness=8, noise=90, offset=50)))
    np.testing.assert_array_equal(other.mask, usual.mask)
    np.testing.assert_array_equal(other.lung, usual.lung)
    assert np.abs(other.hu - usual.hu).mean() > 20


def test_values_stay_on_the_scale_that_scanners_store() -> None:
    volume = scanned(seen_as=replace(REFERENCE, scanner=Scanner(noise=400, gain=9)))
    assert (volume.hu.min(), volume.hu.max()) == (-1024, 3071)


def test_healthy_patients_have_empty_masks_and_the_same_lung() -> None:
    healthy = scanned(seen_as=replace(REFERENCE, disease=Disease(healthy=1.0)))
    assert not healthy.mask.any()
    np.testing.assert_array_equal(healthy.lung, scanned().lung)
    assert 0.05 < healthy.lung.mean() < 0.3


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = replace(REFERENCE, scanner=Scanner(noise=0.0))
    whole = scanned(seen_as=quiet)
    monkeypatch.setattr(module, "CHUNK", 3 * 3 * 48 * 48)
    pieces = scanned(seen_as=quiet)
    assert np.abs(pieces.hu - whole.hu).max() <= 1
    np.testing.assert_array_equal(pieces.mask, whole.mask)


def test_second_visit_has_other_noise_and_levels_but_the_same_lesions() -> None:
    first, again, second = scanned(), scanned(), scanned(visit=1)
    np.testing.assert_array_equal(again.hu, first.hu)
    assert (second.hu != first.hu).mean() > 0.5
    assert 0 < abs(second.affine[2, 3] - first.affine[2, 3]) <= 5
    np.testing.assert_allclose(centre(second), centre(first), atol=4)
