"""Hospitals of tensors that are in memory already."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from lightning_fl.data.augmentation import augmented
from lightning_fl.data.module import FederatedDataModule, LabelledSample, Sample
from lightning_fl.errors import ConfigError, DataError

Patients = Mapping[str, tuple[Any, Any]]
"""A hospital's patients by name: their images, and the masks or labels of these."""


class TensorHospitals(FederatedDataModule):
    """Hold images and masks, or images and labels, that Python code has made or read.

    A patient's images are (N, channels, ...), tensors or arrays of one size. Masks are class
    numbers (N, height, width), 0 being background; labels are class numbers (N,). Values are used
    as they are: scale images before.

    Args:
        hospitals: patients by hospital, e.g. `{"A": {"patient 1": (images, masks)}}`.
        **kwargs: of the base class, e.g. `batch_size`, `unseen`.

    Raises:
        ConfigError: there is no hospital, or labelled images are to be augmented.
        DataError: a patient's tensors do not go together; names hospital and patient.
    """

    def __init__(self, hospitals: Mapping[str, Patients], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hospitals:
            raise ConfigError("Expected at least one hospital in `hospitals`, but got none.")
        self._samples = {
            site: {
                str(name): _PatientSamples(site, str(name), *pair) for name, pair in all_.items()
            }
            for site, all_ in hospitals.items()
        }
        everyone = [samples for patients in self._samples.values() for samples in patients.values()]
        if self.augment is not None and any(samples.truth == "label" for samples in everyone):
            raise ConfigError("`augment` moves images with masks, but some have labels; set null.")

    def site_names(self) -> tuple[str, ...]:
        """Return the hospitals in their order."""
        return tuple(self._samples)

    def patients(self, site: str) -> tuple[str, ...]:
        """Return a hospital's patients, sorted."""
        return tuple(sorted(self._samples[site]))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        """Return the images of some patients in their order, patient by patient."""
        samples: ConcatDataset[Any] = ConcatDataset(
            [self._samples[site][name] for name in patients]
        )
        if augment and self.augment is not None:
            return _Augmented(samples, self.augment)
        return samples


class _PatientSamples(Dataset[Sample | LabelledSample]):
    """Hold the samples of one patient."""

    def __init__(self, site: str, patient: str, images: Any, truth: Any) -> None:
        self.images = torch.as_tensor(images).float()
        numbers = torch.as_tensor(truth)
        self.truth = "label" if numbers.ndim == 1 else "mask"
        self.numbers = numbers.long()
        if problem := _problem(self.images, numbers):
            raise DataError(f"Site {site!r}, patient {patient!r}: {problem}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return {"image": self.images[index], self.truth: self.numbers[index]}


class _Augmented(Dataset[Sample]):
    """Transform samples with masks, anew each time."""

    def __init__(self, samples: ConcatDataset[Any], transform: Any) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return augmented(self.samples[index], self.transform)


def _problem(images: Tensor, truth: Tensor) -> str:
    """Say what does not fit between a patient's images and masks or labels; "" for nothing."""
    shape, other = tuple(images.shape), tuple(truth.shape)
    if images.ndim not in (4, 5) or not len(images):
        return f"expected images (N, channels, height, width) with N at least 1, but got {shape}."
    masks = (len(images), *shape[2:])
    if other not in (masks, (len(images),)):
        return f"images {shape} need masks {masks} or {len(images)} labels, but got {other}."
    if truth.is_floating_point() or truth.is_complex():
        return f"expected class numbers as integers, but got {truth.dtype}; round them."
    if not torch.isfinite(images).all():
        return "images hold NaN or infinity."
    return ""
