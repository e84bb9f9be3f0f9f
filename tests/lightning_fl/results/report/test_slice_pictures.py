import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from lightning_fl.results.report.slice_pictures import (
    LARGEST_SIDE,
    dice,
    outline,
    png_address,
)


def mask(*rows: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)


def opened(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))


def test_dice_by_hand() -> None:
    assert dice(mask("110", "000"), mask("010", "010")) == 0.5
    assert dice(mask("00"), mask("00")) == 1.0
    assert dice(mask("1200"), mask("1020")) == 0.5  # class 1 is right, class 2 is wrong


def test_outline_surrounds_the_pixel_it_is_of() -> None:
    points = outline(mask("000", "010", "000")).strip("MZ").split()
    assert set(points) == {"1,1.5", "1.5,1", "2,1.5", "1.5,2"}


def test_outline_is_closed_at_the_border_and_drawn_for_each_class() -> None:
    assert outline(mask("11", "11")).count("M") == 1
    assert outline(mask("12")).count("Z") == 2
    assert outline(mask("00")) == ""


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (5, "L")])
def test_png_is_small_and_of_the_right_kind(channels: int, mode: str) -> None:
    noise = np.random.default_rng(0).normal(50, 900, (channels, 400, 300)).astype(np.float32)
    picture = opened(png_address(noise))
    assert picture.mode == mode
    assert picture.size == (LARGEST_SIDE * 3 // 4, LARGEST_SIDE)


def test_constant_or_broken_image_is_drawn_all_the_same() -> None:
    broken = np.full((1, 8, 8), np.nan, dtype=np.float32)
    assert opened(png_address(broken)).size == (8, 8)


def test_a_png_can_have_the_range_of_another_image() -> None:
    """A dark image stays dark beside a bright one, where its own range would stretch it."""
    bright = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    dark = (bright / 10).astype(np.float32)
    alone, shared = (np.asarray(opened(png_address(dark, like=like))) for like in (None, bright))
    assert alone.max() == 255
    assert shared.max() < 30


def test_regions_are_outlined_one_by_one_and_ignored_pixels_count_nowhere() -> None:
    nested = np.stack([mask("111", "111"), mask("010", "000")])
    assert outline(nested).count("M") == 2
    ignored = mask("010", "000")
    ignored[1] = 255
    assert outline(ignored) == outline(mask("010", "000"))
    assert dice(mask("010", "111"), ignored) == 1.0
    assert dice(nested, np.stack([nested[0], mask("000", "000")])) == 0.5
    assert math.isnan(dice(mask("01"), np.full((1, 2), 255, np.uint8)))
