import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.preprocessing import ImagePreprocessing
from lightning_fl.data.scans import from_settings
from lightning_fl.errors import ConfigError, DataError


def photo(folder: Path, name: str, shape: tuple[int, ...] = (6, 8)) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_images_of_a_folder_are_found_and_predicted_masks_are_not(tmp_path: Path) -> None:
    wanted = [photo(tmp_path, name) for name in ("a.jpg", "b.PNG", "c.tif")]
    for name in ("a.mask.png", "a.mask.1.png", ".hidden.png"):
        photo(tmp_path, name)
    (tmp_path / "notes.txt").touch()
    assert ImagePreprocessing(1).find(tmp_path) == tuple(wanted)
    assert ImagePreprocessing(1).find(wanted[0]) == (wanted[0],)
    with pytest.raises(DataError, match=r"notes.txt is no image file.* expected \.png"):
        ImagePreprocessing(1).find(tmp_path / "notes.txt")


def test_an_image_gets_channels_size_and_normalisation_and_remembers_its_own_size(
    tmp_path: Path,
) -> None:
    path = photo(tmp_path, "a.png", (6, 8, 3))
    prepare = ImagePreprocessing(1, (12, 4), "site", (0.5,), (0.25,))
    picture = prepare.read(path)
    assert (picture.name, picture.size) == ("a", (6, 8))
    plain = ImagePreprocessing(1, (12, 4), "none").read(path).image
    assert plain.shape == (1, 12, 4)
    torch.testing.assert_close(picture.image, (plain - 0.5) / 0.25)
    grey = ImagePreprocessing(3, None, "image").read(photo(tmp_path, "b.png")).image
    assert grey.shape == (3, 6, 8)
    torch.testing.assert_close(grey.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)


def test_channels_that_the_net_never_saw_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.png has 3 channel.*, which cannot become `channels`: 2"
    ):
        ImagePreprocessing(2).read(photo(tmp_path, "a.png", (6, 8, 3)))


def test_settings_come_back_from_plain_values() -> None:
    prepare = ImagePreprocessing(3, (8, 8), "site", (1.0, 2, 3), (1.0, 1, 1), ("healthy", "ill"))
    assert from_settings(prepare.to_settings()) == prepare
    assert prepare.class_names() == ("healthy", "ill")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalise": "window"}, "none, image, percentiles or site, but got 'window'"),
        ({"normalise": "site"}, "`mean` and `sd` to be 1 numbers each with `normalise` 'site'"),
        ({"mean": (0.5,)}, "to be 0 numbers each with `normalise` 'image', but got (0.5,)"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        ImagePreprocessing(1, **settings)
