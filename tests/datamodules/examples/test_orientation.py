import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import obliquity

from datamodules.examples.orientation import oriented, turned
from datamodules.examples.phantom_volume import PhantomVolume

AFFINE = np.array([[0, 0, -2, 70], [0, -2, 0, 60], [-5, 0, 0, 90], [0, 0, 0, 1]], dtype=float)


def blocks() -> PhantomVolume:
    """Two bodies of different density, well inside the grid."""
    hu = np.full((16, 30, 40), -1000, dtype=np.int16)
    hu[5:9, 10:20, 8:20] = 40
    mask = np.zeros(hu.shape, dtype=np.uint8)
    mask[6:8, 12:17, 10:16] = 1
    return PhantomVolume(hu, mask, mask > 0, AFFINE)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "IPL", "ASR", "PIR"])
def test_every_voxel_stays_where_it_is(codes: str) -> None:
    volume = blocks()
    stored = oriented(volume, codes)
    assert nib.aff2axcodes(stored.affine) == tuple(codes)  # type: ignore[no-untyped-call]
    voxel = np.array([5, 12, 33, 1])
    there = np.rint(np.linalg.inv(stored.affine) @ AFFINE @ voxel).astype(int)
    marked = volume.hu.copy()
    marked[5, 12, 33] = 999
    other = oriented(PhantomVolume(marked, volume.mask, volume.lung, AFFINE), codes)
    assert np.argwhere(other.hu == 999).tolist() == [there[:3].tolist()]
    assert stored.mask.sum() == volume.mask.sum()


def test_nibabel_orients_in_the_same_way() -> None:
    stored = oriented(blocks(), "LPS")
    image = nib.Nifti1Image(blocks().hu, AFFINE)  # type: ignore[no-untyped-call]
    canonical = nib.as_closest_canonical(image)  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(np.flip(stored.hu, (0, 1)), np.asarray(canonical.dataobj))


def test_turned_scan_shows_bodies_in_their_place() -> None:
    usual, other = blocks(), turned(blocks(), about_x=3, about_z=4)
    for labels in ("mask", "lung"):
        centres = [
            v.affine @ [*np.argwhere(getattr(v, labels)).mean(axis=0), 1] for v in (usual, other)
        ]
        np.testing.assert_allclose(centres[1], centres[0], atol=1)
    masses = [
        v.affine @ [*np.average(np.argwhere(v.hu > -2000), axis=0, weights=v.hu.ravel() + 1000), 1]
        for v in (usual, other)
    ]
    np.testing.assert_allclose(masses[1], masses[0], atol=0.3)


def test_turned_axes_are_square_and_off_those_of_the_body() -> None:
    turn = turned(blocks(), about_x=3, about_z=4).affine[:3, :3]
    np.testing.assert_allclose(turn.T @ turn, np.diag([25.0, 4.0, 4.0]), atol=1e-9)
    degrees = np.rad2deg(obliquity(np.block([[turn, np.zeros((3, 1))], [np.eye(4)[3:]]])))  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(np.sort(degrees), [3, 4, 5], atol=0.01)
