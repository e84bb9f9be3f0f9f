"""What is read of a hospital's data, in words for the people who have them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_fl.data.module import IGNORE, PARTS, FederatedDataModule

MOST = 200
"""Images of a hospital that are looked at, evenly spread; more take minutes."""
SERIES = re.compile(r"(.*\d.*)[-_. ]\d+")
"""A patient's name that looks like a number with the number of an image after it."""


@dataclass
class Contents:
    """Count what the images of a hospital hold.

    Attributes:
        images: that were looked at.
        shapes: of the images, (channels, height, width).
        low: smallest value of an image.
        high: largest value of an image.
        pixels: of each class or region, by its number; `IGNORE` for those without truth.
        counted: pixels of all masks.
        labels: images with each label, by a text such as "1", or "2 = 0" for the third of several.
        constant: images with one value everywhere.
        full: masks without background.
        regions: whether masks are of regions that may overlap.
    """

    images: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    low: float = float("inf")
    high: float = float("-inf")
    pixels: dict[int, int] = field(default_factory=dict)
    counted: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    constant: int = 0
    full: int = 0
    regions: bool = False

    def add(self, sample: Mapping[str, Tensor]) -> None:
        """Add one sample."""
        image = sample["image"]
        low, high = float(image.min()), float(image.max())
        self.images += 1
        self.shapes.add(tuple(image.shape))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.constant += low == high
        if "mask" in sample:
            self._add_mask(sample["mask"])
        elif "label" in sample:
            self._add_label(sample["label"])

    def _add_mask(self, mask: Tensor) -> None:
        self.regions = mask.ndim == 3
        known = mask != IGNORE
        foreground = (mask > 0) & known
        inside = foreground.any(0) if self.regions else foreground
        counts: Iterable[tuple[int, int]]
        if self.regions:
            ignored = int((~known).any(0).sum())
            counts = [*enumerate(foreground.flatten(1).sum(1).tolist()), (IGNORE, ignored)]
        else:
            values, numbers = np.unique(mask.numpy(), return_counts=True)
            counts = zip(values.tolist(), numbers.tolist(), strict=True)
        for number, count in counts:
            self.pixels[number] = self.pixels.get(number, 0) + count
        self.counted += inside.numel()
        self.full += bool(inside.all())

    def _add_label(self, label: Tensor) -> None:
        texts = [f"{label}"] if label.ndim == 0 else _several(label)
        for text in texts:
            self.labels[text] = self.labels.get(text, 0) + 1

    def lines(self) -> Iterator[str]:
        """Say it in a few lines."""
        sizes = sorted(" x ".join(map(str, shape)) for shape in self.shapes)
        more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
        yield (
            f"{self.images} images looked at: {', '.join(sizes[:3])}{more} (channels x size), "
            f"values {self.low:.3g} to {self.high:.3g}"
        )
        if self.counted:
            shares = [
                f"{number} {100 * count / self.counted:.2g} %"
                for number, count in sorted(self.pixels.items())
                if number != IGNORE
            ]
            ignored = self.pixels.get(IGNORE, 0)
            without = f"; {100 * ignored / self.counted:.2g} % ignored" if ignored else ""
            what = "regions" if self.regions else "classes"
            yield f"{what} by share of pixels: {', '.join(shares)}{without}"
        if self.labels:
            counts = (f"{text}: {count}" for text, count in sorted(self.labels.items()))
            yield f"images by label: {', '.join(counts)}"
        if self.constant:
            yield f"WARNING: {self.constant} images have one value everywhere"
        if self.full:
            yield f"WARNING: {self.full} masks are foreground everywhere"


def describe_data(data: FederatedDataModule, site: str, seed: int) -> Iterator[str]:
    """Say what a hospital's data are as a net sees them, with warnings of what looks wrong.

    Args:
        data: of the run, bound to any hospital or none.
        site: the hospital.
        seed: of the run, for its split.
    """
    bound = data.for_site(site, seed)
    split = bound.split(site)
    images = {part: bound.sample_count(part) for part in PARTS}
    yield f"images: {', '.join(f'{count} {part}' for part, count in images.items())}"
    given = set(bound.given_parts(site).values())
    said = [part for part in PARTS if part in given] + ["folds"] * bool(bound.given_folds(site))
    yield f"split: {', '.join(said)} as the data say, the rest drawn" if said else "split: drawn"
    contents = Contents()
    patients = [patient for part in PARTS for patient in getattr(split, part)]
    for sample in spread(bound.dataset(site, patients, augment=False), MOST):
        if not (isinstance(sample, Mapping) and "image" in sample):
            return  # a task of its own
        contents.add(sample)
    yield from contents.lines()
    size = bound.pixel_size(site)
    if size is not None:
        yield f"pixels of {' x '.join(f'{edge:.3g}' for edge in size)} mm"
    yield f"augmentation: {_one_line(bound.augment)}"
    yield from _torn_patients({part: getattr(split, part) for part in PARTS})


def spread(dataset: Any, most: int) -> Iterator[Any]:
    """Yield samples of a dataset, at most so many, evenly spread."""
    count = len(dataset)
    chosen = torch.linspace(0, count - 1, min(most, count)).round().int().tolist()
    return (dataset[number] for number in chosen)


def _several(label: Tensor) -> list[str]:
    names = {0.0: "0", 1.0: "1"}
    return [f"{number} = {names.get(v, 'missing')}" for number, v in enumerate(label.tolist())]


def _one_line(augment: object) -> str:
    if augment is None:
        return "none"
    if type(augment).__repr__ is not object.__repr__:
        return re.sub(r"\s+", " ", repr(augment))
    parts = getattr(augment, "transforms", ())
    inside = ", ".join(type(part).__name__ for part in parts)
    return f"{type(augment).__name__}({inside})"


def _torn_patients(parts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Warn of patients in two parts whose names differ in a last number alone."""
    first: dict[str, tuple[str, str]] = {}
    for part, patients in parts.items():
        for patient in patients:
            match = SERIES.fullmatch(patient)
            if match is None:
                continue
            twin, where = first.setdefault(match[1], (patient, part))
            if where != part:
                yield (
                    f"WARNING: {twin!r} ({where}) and {patient!r} ({part}) may be images of one "
                    "patient in two parts; if so, say by `patient` or a column who they are of"
                )
                return
