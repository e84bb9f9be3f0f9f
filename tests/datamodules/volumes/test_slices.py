import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules.volumes.slices import AXES, Slicing
from lightning_fl.errors import ConfigError


def grid() -> npt.NDArray[np.int16]:
    return np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def raw(direction: str, neighbours: int = 3) -> Slicing:
    return Slicing(direction, neighbours)


def test_axial_image_has_the_slices_below_and_above() -> None:
    image = raw("axial").image(grid()[None], 1)
    expected = np.stack([grid()[::-1, ::-1, k].T for k in (0, 1, 2)])
    torch.testing.assert_close(image, torch.from_numpy(expected).float())


@pytest.mark.parametrize(
    ("direction", "voxel", "pixel"),
    [
        ("axial", (1, 2, 0), (0, 0)),  # right and front: top left
        ("coronal", (1, 0, 3), (0, 0)),  # right and head
        ("sagittal", (0, 2, 3), (0, 0)),  # front and head
        ("axial", (0, 0, 1), (2, 1)),  # left and back: bottom right
    ],
)
def test_images_lie_as_they_are_read(
    direction: str, voxel: tuple[int, int, int], pixel: tuple[int, int]
) -> None:
    mask = np.zeros((2, 3, 4), dtype=np.uint8)
    mask[voxel] = 1
    slicing = raw(direction)
    found = slicing.mask(mask, voxel[slicing.axis])
    assert found.nonzero().tolist() == [list(pixel)]


def test_slices_at_the_ends_are_repeated() -> None:
    image = raw("sagittal", 5).image(grid()[None], 0)
    expected = np.stack([grid()[k, ::-1, ::-1].T for k in (0, 0, 0, 1, 1)])
    torch.testing.assert_close(image, torch.from_numpy(expected).float())


def test_neighbours_of_the_first_channel_come_first() -> None:
    both = np.stack([grid(), -grid()])
    image = raw("axial").image(both, 1)
    assert image.dtype == torch.float32
    assert torch.equal(image[:3], raw("axial").image(both[:1], 1))
    assert torch.equal(image[3:], -image[:3])


@pytest.mark.parametrize("direction", AXES)
def test_assemble_undoes_slicing(direction: str) -> None:
    slicing = raw(direction, 1)
    length = grid().shape[slicing.axis]
    images = torch.stack([slicing.image(grid()[None], i) for i in range(length)])
    two = torch.cat([images, -images], dim=1)
    batches = [two[:1], two[1:]]
    expected = torch.from_numpy(grid()).float()
    torch.testing.assert_close(slicing.assemble(batches), torch.stack([expected, -expected]))


@pytest.mark.parametrize("direction", AXES)
def test_middle_channel_is_the_slice_of_the_mask(direction: str) -> None:
    slicing = raw(direction)
    image = slicing.image(grid()[None], 1)[1]
    mask = slicing.mask(grid().astype(np.uint8), 1)
    assert mask.dtype == torch.int64
    torch.testing.assert_close(image, mask.float())


@pytest.mark.parametrize(("direction", "expected"), [("axial", 3), ("coronal", 2), ("sagittal", 1)])
def test_foreground_finds_the_slice_of_a_voxel(direction: str, expected: int) -> None:
    mask = np.zeros((2, 3, 4), dtype=np.uint8)
    mask[1, 2, 3] = 2
    assert raw(direction).foreground(mask).tolist() == [expected]


def test_unknown_direction_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="'z'; expected one of 'axial', 'coronal', 'sagittal'"):
        Slicing("z")


@pytest.mark.parametrize("neighbours", [0, 2, -1])
def test_even_number_of_neighbours_is_refused(neighbours: int) -> None:
    with pytest.raises(ConfigError, match=f"`neighbours` to be an odd .* got {neighbours}"):
        Slicing(neighbours=neighbours)
