"""Layouts of 2-D images with masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.examples.example import Amount
from datamodules.examples.layouts.drawing import draw, layout, people, save_picture
from lightning_fl.files import write_csv

IMAGES = "configs/images.yaml"
WHITE = np.uint8(255)


def _part(number: int, amount: Amount) -> str:
    """Return the part of a hospital's patient: the last one is tested."""
    return "Test" if number % amount.patients == amount.patients - 1 else "Train"


def folders(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/Train|Test/images/<patient>_<n>.png`, `.../masks/<patient>_<n>_mask.png`."""
    for number, (site, name, patient, seed) in enumerate(people(amount)):
        place = folder / name / _part(number, amount)
        for image in range(2):
            pixels, mask = draw(seed + image, (amount.size, amount.size), site)
            save_picture(place / "images" / f"{patient}_{image}.png", pixels)
            save_picture(place / "masks" / f"{patient}_{image}_mask.png", WHITE * (mask > 0))
        yield patient


def table(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `data.csv` with a split, and PNG files; the last site has unlabelled pixels, 255."""
    rows = []
    for number, (site, name, patient, seed) in enumerate(people(amount)):
        for image in range(2):
            pixels, mask = draw(seed + image, (amount.size, amount.size), site)
            if site == amount.sites - 1:
                mask[:4] = 255
            files = [f"{kind}/{patient}_{image}.png" for kind in ("images", "masks")]
            save_picture(folder / files[0], pixels)
            save_picture(folder / files[1], mask)
            rows.append((name, patient, *files, _part(number, amount).lower()))
        yield patient
    write_csv(folder / "data.csv", ("site", "patient", "image", "mask", "split"), rows)


def fundus(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/Train|Test/image/<name>.png` in colour; masks: 128 disc, 255 cup inside it."""
    for number, (site, name, patient, seed) in enumerate(people(amount)):
        place = folder / name / _part(number, amount)
        pixels, mask = draw(seed, (amount.size, amount.size), site)
        save_picture(place / "image" / f"{patient}.png", np.stack([pixels, pixels // 2, mask], -1))
        save_picture(place / "mask" / f"{patient}.png", np.array([0, 128, 255], np.uint8)[mask])
        yield patient


def polyps(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/images/<n>.jpg` in colour, and masks as JPEG, whose edges are in shades."""
    for site, name, patient, seed in people(amount):
        pixels, mask = draw(seed, (amount.size, amount.size), site)
        save_picture(folder / name / "images" / f"{patient}.jpg", np.stack([pixels] * 3, -1))
        save_picture(folder / name / "masks" / f"{patient}.jpg", WHITE * (mask > 0))
        yield patient


def arrays(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/<patient>.npz` with the arrays image, float32, and mask."""
    for site, name, patient, seed in people(amount):
        pixels, mask = draw(seed, (amount.size, amount.size), site)
        (folder / name).mkdir(exist_ok=True)
        image = pixels.astype(np.float32) / 100
        np.savez_compressed(folder / name / f"{patient}.npz", image=image, mask=mask)
        yield patient


PICTURES = {
    "folders": layout(IMAGES, folders),
    "table": layout(IMAGES, table),
    "fundus": layout(IMAGES, fundus, sites=4),
    "polyps": layout(IMAGES, polyps),
    "arrays": layout(IMAGES, arrays),
}
