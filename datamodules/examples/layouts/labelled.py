"""Layouts of 2-D images with labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.examples.example import Amount
from datamodules.examples.layouts.drawing import Bytes, draw, layout, people, save_picture
from lightning_fl.files import write_csv

LABELS = "configs/labels.yaml"
CONTRASTS = (15, 60)
"""Of the images of class 0 and 1."""


def _cases(amount: Amount) -> Iterator[tuple[int, str, str, int, Bytes]]:
    """Yield site, its name, patient, label and picture; labels alternate."""
    for number, (site, name, patient, seed) in enumerate(people(amount)):
        label = number % 2
        pixels, _ = draw(seed, (amount.size, amount.size), site, CONTRASTS[label])
        yield site, name, patient, label, pixels


def classes(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/healthy|sick/<patient>_<n>.png`, a folder for each class."""
    for _, name, patient, label, pixels in _cases(amount):
        for view in range(2):
            file = folder / name / ("healthy", "sick")[label] / f"{patient}_{view}.png"
            save_picture(file, np.roll(pixels, view, 0))
        yield patient


def flamby(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `train_test_split` of FLamby: image, target, center, and in `fold` train or test."""
    rows = []
    for number, (site, _, patient, label, pixels) in enumerate(_cases(amount)):
        name = f"ISIC_{number:07d}"
        save_picture(folder / "images" / f"{name}.jpg", np.stack([pixels] * 3, -1))
        part = "test" if number % amount.patients < 2 else "train"
        rows.append((name, label, site, part, f"{part}_{site}"))
        yield patient
    columns = ("image", "target", "center", "fold", "fold2")
    write_csv(folder / "train_test_split.csv", columns, rows)


def ham10000(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `HAM10000_metadata.csv` and `HAM10000_images/`; a lesion has two images."""
    rows = []
    for number, (_, name, patient, label, pixels) in enumerate(_cases(amount)):
        for view in range(2):
            image = f"ISIC_{2 * number + view:07d}"
            colour = np.stack([pixels] * 3, -1)
            save_picture(folder / "HAM10000_images" / f"{image}.jpg", np.roll(colour, view, 0))
            rows.append((f"HAM_{number:07d}", image, ("nv", "mel")[label], "histo", name))
        yield patient
    columns = ("lesion_id", "image_id", "dx", "dx_type", "dataset")
    write_csv(folder / "HAM10000_metadata.csv", columns, rows)


def chexpert(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `CheXpert-v1.0-small/train.csv` and its images: 1, 0, -1 is uncertain, or empty."""
    rows = []
    root = folder / "CheXpert-v1.0-small"
    for number, (_, _, patient, label, pixels) in enumerate(_cases(amount), start=1):
        path = f"train/patient{number:05d}/study1/view1_frontal.jpg"
        save_picture(root / path, pixels)
        edema, effusion = f"{label:.1f}", ("", "1.0", "0.0", "-1.0")[number % 4]
        rows.append((f"{root.name}/{path}", "Male", 60, "Frontal", edema, effusion))
        yield patient
    columns = ("Path", "Sex", "Age", "Frontal/Lateral", "Edema", "Pleural Effusion")
    write_csv(root / "train.csv", columns, rows)


def medmnist(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `pneumoniamnist.npz` with images and labels of train, val and test."""
    images, labels = [], []
    for _, _, patient, label, pixels in _cases(amount):
        images.append(pixels)
        labels.append([label])
        yield patient
    ends = [int(share * len(labels)) for share in (0.6, 0.8)]
    arrays: dict[str, Any] = {
        f"{part}_{name}": chunk
        for name, values in (("images", images), ("labels", labels))
        for part, chunk in zip(
            ("train", "val", "test"), np.split(np.array(values, np.uint8), ends), strict=True
        )
    }
    np.savez_compressed(folder / "pneumoniamnist.npz", **arrays)


LABELLED = {
    "classes": layout(LABELS, classes, patients=8),
    "flamby": layout(LABELS, flamby, patients=8),
    "ham10000": layout(LABELS, ham10000, patients=8),
    "chexpert": layout(LABELS, chexpert, patients=8),
    "medmnist": layout(LABELS, medmnist, patients=30),
}
