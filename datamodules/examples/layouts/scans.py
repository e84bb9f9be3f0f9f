"""Layouts of 3-D scans with masks."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.examples.example import Amount
from datamodules.examples.layouts.drawing import (
    Bytes,
    draw,
    layout,
    people,
    save_json,
    save_scan,
)
from lightning_fl.files import write_csv

VOLUMES = "configs/volumes.yaml"
SUFFIX = ".nii.gz"


def _draw(seed: int, amount: Amount, site: int) -> tuple[Bytes, Bytes]:
    return draw(seed, (amount.size, amount.size, amount.slices), site)


def prostate(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `<site>/Case00.nii.gz` and `<site>/Case00_segmentation.nii.gz`."""
    for number, (site, name, patient, seed) in enumerate(people(amount)):
        case = folder / name / f"Case{number % amount.patients:02d}"
        voxels, mask = _draw(seed, amount, site)
        save_scan(case.with_name(case.name + SUFFIX), (4 * voxels.astype(np.int16)))
        save_scan(case.with_name(f"{case.name}_segmentation{SUFFIX}"), (mask > 0).astype(np.uint8))
        yield patient


def fets(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `partitioning_1.csv`, four channels a subject and masks of 0, 1, 2 and 4."""
    rows = []
    for number, (site, _, patient, seed) in enumerate(people(amount), start=1):
        subject = f"FeTS_{number:04d}"
        voxels, mask = _draw(seed, amount, site)
        mask[(mask == 2) & (voxels % 2 == 0)] = 4
        for channel, factor in (("flair", 4), ("t1", 1), ("t1ce", 2), ("t2", 3)):
            path = folder / subject / f"{subject}_{channel}{SUFFIX}"
            save_scan(path, factor * voxels.astype(np.int16))
        save_scan(folder / subject / f"{subject}_seg{SUFFIX}", mask)
        rows.append((site + 1, subject))
        yield patient
    write_csv(folder / "partitioning_1.csv", ("Partition_ID", "Subject_ID"), rows)


def mnms(folder: Path, amount: Amount) -> Iterator[str]:
    """Write a table with vendor and centre, and the frame ED of each scan; masks have 3 classes."""
    rows = []
    for site, name, patient, seed in people(amount):
        voxels, mask = _draw(seed, amount, site)
        mask[: amount.size // 2][mask[: amount.size // 2] == 1] = 3
        save_scan(folder / patient / f"{patient}_sa_ED{SUFFIX}", voxels)
        save_scan(folder / patient / f"{patient}_sa_ED_gt{SUFFIX}", mask)
        rows.append((patient, name, site + 1))
        yield patient
    write_csv(folder / "information.csv", ("External code", "Vendor", "Centre"), rows)


def decathlon(folder: Path, amount: Amount) -> Iterator[str]:
    """Write `dataset.json`, imagesTr of two channels in a 4-D file, and labelsTr."""
    entries = []
    for number, (site, _, patient, seed) in enumerate(people(amount)):
        voxels, mask = _draw(seed, amount, site)
        name = f"case_{number:03d}{SUFFIX}"
        save_scan(folder / "imagesTr" / name, np.stack([voxels, 255 - voxels], axis=-1))
        save_scan(folder / "labelsTr" / name, mask)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
        yield patient
    settings = {"modality": {"0": "T2", "1": "ADC"}, "training": entries, "test": []}
    save_json(folder / "dataset.json", settings)


def nnunet(folder: Path, amount: Amount) -> Iterator[str]:
    """Write a raw data set for each site, `Dataset001_A`, with `splits_final.json`."""
    cases: dict[str, list[str]] = defaultdict(list)
    for site, name, patient, seed in people(amount):
        place = folder / f"Dataset{site + 1:03d}_{name}"
        voxels, mask = _draw(seed, amount, site)
        save_scan(place / "imagesTr" / f"{patient}_0000{SUFFIX}", voxels)
        save_scan(place / "labelsTr" / f"{patient}{SUFFIX}", mask)
        cases[place.name].append(patient)
        yield patient
    for place_name, names in cases.items():
        labels = {"background": 0, "outside": 1, "core": 2}
        settings = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": SUFFIX}
        settings["numTraining"] = len(names)
        save_json(folder / place_name / "dataset.json", settings)
        splits = [
            {"train": sorted({*names} - {*names[k::3]}), "val": names[k::3]} for k in range(3)
        ]
        save_json(folder / place_name / "splits_final.json", splits)


def datalist(folder: Path, amount: Amount) -> Iterator[str]:
    """Write a MONAI datalist for each site, and one folder of all scans."""
    entries: dict[str, list[dict[str, str]]] = defaultdict(list)
    for site, name, patient, seed in people(amount):
        voxels, mask = _draw(seed, amount, site)
        paths = {"image": f"scans/{patient}{SUFFIX}", "label": f"scans/{patient}_seg{SUFFIX}"}
        save_scan(folder / paths["image"], voxels)
        save_scan(folder / paths["label"], mask)
        entries[name].append(paths)
        yield patient
    for name, listed in entries.items():
        lists = {"training": listed[:-1], "validation": listed[-1:]}
        save_json(folder / f"{name}.json", lists)


SCANS = {
    "prostate": layout(VOLUMES, prostate, sites=6),
    "fets": layout(VOLUMES, fets),
    "mnms": layout(VOLUMES, mnms),
    "decathlon": layout(VOLUMES, decathlon),
    "nnunet": layout(VOLUMES, nnunet),
    "datalist": layout(VOLUMES, datalist),
}
