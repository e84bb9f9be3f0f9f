from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from lightning_fl.results.contact_sheet import COLOURS, TEXT, TILE, write_contact_sheet
from tests.toy import AlikeHospitals


def drawn(folder: Path, truth: Tensor, sites: str = "AB", side: int = 8) -> Image.Image | None:
    """The sheet of hospitals with three patients of one image each."""
    image = torch.arange(side**2).reshape(1, side, side).float()
    data = AlikeHospitals({"image": image, "mask" if truth.ndim else "label": truth}, sites)
    path = write_contact_sheet(folder, data, tuple(sites), seed=0)
    return None if path is None else Image.open(path)


def pixels_of(sheet: Image.Image | None, colour: str) -> int:
    assert sheet is not None
    same = np.array(sheet) == ImageColor.getrgb(colour)
    return int(same.all(-1).sum())


def test_each_hospital_has_a_row_and_each_class_an_outline(tmp_path: Path) -> None:
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[2:6, 2:6], mask[3:5, 3:5], mask[0] = 1, 2, 255
    one, two = (drawn(tmp_path / sites, mask, sites) for sites in ("A", "AB"))
    assert one is not None
    assert two is not None
    assert two.height == 2 * one.height >= 2 * (TILE + TEXT)
    outer, inner = (pixels_of(one, colour) for colour in COLOURS[:2])
    assert outer > inner > TILE // 2
    assert pixels_of(two, COLOURS[0]) == 2 * outer
    assert pixels_of(one, COLOURS[2]) == 0


def test_regions_that_overlap_are_both_outlined(tmp_path: Path) -> None:
    regions = torch.zeros(2, 8, 8, dtype=torch.int64)
    regions[0, 1:7, 1:7] = regions[1, 3:6, 3:6] = 1
    sheet = drawn(tmp_path, regions)
    assert pixels_of(sheet, COLOURS[0]) > pixels_of(sheet, COLOURS[1]) > TILE


def test_images_with_labels_are_drawn_without_outlines(tmp_path: Path) -> None:
    sheet = drawn(tmp_path, torch.tensor(1))
    assert pixels_of(sheet, COLOURS[0]) == 0
