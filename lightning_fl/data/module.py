"""The data of a federation: one LightningDataModule, bound to one hospital at a time."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from lightning_fl.data.scans import Preprocessing, ScanFiles
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.seeds import derive_seed

POOLED = "pooled"
"""Name of the site that holds everybody's training patients, for the Centralised bound only."""


class Sample(TypedDict):
    """One image and its mask.

    `image` is float32 of shape (channels, height, width); `mask` is int64 of shape (height, width)
    with class numbers, 0 being background.
    """

    image: Tensor
    mask: Tensor


class LabelledSample(TypedDict):
    """One image or volume and its class, for classification.

    `image` is float32 of shape (channels, height, width) or (channels, depth, height, width);
    `label` is an int64 scalar, the class number.
    """

    image: Tensor
    label: Tensor


@dataclass(frozen=True)
class PatientSplit:
    """The patients of one hospital, each in exactly one part."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


class FederatedDataModule(pl.LightningDataModule, ABC):
    """The data of several hospitals; `for_site` binds a copy of it to one of them.

    Subclasses say which hospitals and patients there are and build the dataset of some patients;
    splitting and loading are done here. Building one must be cheap and must check what can be
    checked (folders, files, settings), because it happens before anything is trained.

    Args:
        batch_size: samples in a batch. Per-FedAvg draws two or three such batches for each step.
        num_workers: worker processes of a loader; 0 loads in the main process.
        val: validation patients of each hospital: a fraction below 1, or a number of patients.
        test: test patients of each hospital: a fraction below 1, or a number of patients.
        unseen: hospitals that never train and only personalise the finished model.
        folds: cut each hospital's patients into so many parts, one of which is tested, in place of
            `test`; every patient is tested once in as many runs. null for none.
        fold: which of these parts is tested, 0 to folds - 1.
        augment: transform of a training sample's image and mask, e.g. a torchvision v2 transform
            called with two tv_tensors (Image, Mask); never used for validation or test.
    """

    def __init__(
        self,
        *,
        batch_size: int = 8,
        num_workers: int = 0,
        val: float = 0.2,
        test: float = 0.2,
        unseen: Sequence[str] = (),
        folds: int | None = None,
        fold: int = 0,
        augment: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"Expected `batch_size` to be at least 1, but got {batch_size}.")
        for name, value in (("val", val), ("test", test)):
            if value <= 0 or (value >= 1 and value != int(value)):
                raise ConfigError(
                    f"Expected `{name}` to be a fraction between 0 and 1 or a whole number of "
                    f"patients, but got {value}."
                )
        if folds is not None and (folds < 2 or not 0 <= fold < folds):
            raise ConfigError(
                f"Expected `folds` to be at least 2 and `fold` between 0 and {folds - 1}, but got "
                f"{folds} and {fold}."
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val = val
        self.test = test
        self.unseen = tuple(unseen)
        self.folds = folds
        self.fold = fold
        self.augment = augment
        self.site: str | None = None
        self.seed = 0

    @abstractmethod
    def site_names(self) -> tuple[str, ...]:
        """Names of all hospitals, those in `unseen` included."""

    @abstractmethod
    def patients(self, site: str) -> tuple[str, ...]:
        """Identifiers of a hospital's patients, in an order that never changes."""

    @abstractmethod
    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """The samples of some patients of a hospital, in a fixed order, loaded lazily."""

    def training_sites(self) -> tuple[str, ...]:
        """Hospitals that take part in training: all but those in `unseen`."""
        names = self.site_names()
        unknown = sorted(set(self.unseen) - set(names))
        if unknown:
            raise ConfigError(f"`unseen` names {unknown}, but the hospitals are {sorted(names)}.")
        return tuple(name for name in names if name not in self.unseen)

    def for_site(self, site: str, seed: int) -> Self:
        """A copy that belongs to one hospital, or to all of them pooled (site "pooled").

        Args:
            site: name of the hospital.
            seed: seed of the run; with the site's name it decides the split.

        Raises:
            ConfigError: there is no such hospital.
        """
        if site != POOLED and site not in self.site_names():
            raise ConfigError(f"No hospital {site!r}; the hospitals are {list(self.site_names())}.")
        bound = copy.copy(self)
        bound.site = site
        bound.seed = seed
        return bound

    def split(self, site: str) -> PatientSplit:
        """Split a hospital's patients by (seed, site); a patient is never in two parts.

        A hospital in `unseen` with fewer than three patients cannot be split: all of them are test
        patients, so the model is tested there as it is.

        Raises:
            DataError: the hospital has fewer patients than the three parts need.
        """
        patients = self.patients(site)
        order = np.random.default_rng(derive_seed(self.seed, site, "split")).permutation(
            len(patients)
        )
        shuffled = [patients[i] for i in order]
        if self.folds is not None and len(patients) < self.folds:
            if site in self.unseen and len(patients) < 3:
                return PatientSplit((), (), tuple(patients))
            raise DataError(
                f"Site {site!r} has {len(patients)} patients, which cannot be cut into `folds`: "
                f"{self.folds}. Lower `folds`, add patients, or leave the site out."
            )
        chosen = self._test_patients(site, shuffled)
        shuffled = chosen + [p for p in shuffled if p not in chosen]
        n_val, n_test = _count(self.val, len(patients)), max(1, len(chosen))
        if len(patients) < n_val + n_test + 1:
            if site in self.unseen and len(patients) < 3:
                return PatientSplit((), (), tuple(patients))
            raise DataError(
                f"Site {site!r} has {len(patients)} patients, but its split needs at least "
                f"{n_val + n_test + 1}: {n_val} for validation, {n_test} for test and 1 to train. "
                "Add patients, lower `val` and `test`, or leave the site out."
            )
        test, val = shuffled[:n_test], shuffled[n_test : n_test + n_val]
        return PatientSplit(tuple(shuffled[n_test + n_val :]), tuple(val), tuple(test))

    def _test_patients(self, site: str, shuffled: list[str]) -> list[str]:
        """Which of a hospital's patients, in random order, are tested."""
        if self.folds is not None:
            return shuffled[self.fold :: self.folds]
        return shuffled[: _count(self.test, len(shuffled))]

    def preprocessing(self, site: str) -> Preprocessing | None:
        """How a hospital's files become what a net sees, or None if new files cannot be read."""
        return None

    def pictures(self, images: Tensor) -> Tensor:
        """What the report shows of images (N, C, H, W): all of them, unless overridden."""
        return images

    def scans(self, site: str, patients: Sequence[str]) -> tuple[ScanFiles, ...]:
        """Whole scans of some patients, to be segmented in three dimensions; () where none are.

        `preprocessing` of the hospital reads them as `lightning_fl.data.scans.Volume`.
        """
        return ()

    def _bound_sites(self) -> tuple[str, ...]:
        if self.site is None:
            raise ConfigError("This datamodule belongs to no hospital yet; call `for_site` first.")
        return self.training_sites() if self.site == POOLED else (self.site,)

    def split_dataset(self, part: str, *, augment: bool = False) -> Dataset[Sample]:
        """The samples of one part ("train", "val" or "test") of this hospital."""
        parts = [
            self.dataset(site, getattr(self.split(site), part), augment=augment)
            for site in self._bound_sites()
        ]
        return parts[0] if len(parts) == 1 else ConcatDataset(parts)

    def sample_count(self, part: str) -> int:
        """Number of samples in one part of this hospital."""
        return _length(self.split_dataset(part))

    def patient_counts(self) -> dict[str, int]:
        """Number of patients in each part of this hospital (of all, if pooled)."""
        splits = [self.split(site) for site in self._bound_sites()]
        return {
            part: sum(len(getattr(split, part)) for split in splits)
            for part in ("train", "val", "test")
        }

    def split_by_site(self) -> dict[str, tuple[str, ...]]:
        """The patients of this hospital (of all, if pooled), by "site/part"."""
        return {
            f"{site}/{part}": getattr(self.split(site), part)
            for site in self._bound_sites()
            for part in ("train", "val", "test")
        }

    def sites_to_check(self) -> tuple[str, ...]:
        """Those whose files `check` reads: this one, or all if pooled or bound to none."""
        everyone = self.site is None or self.site == POOLED
        return self.site_names() if everyone else (str(self.site),)

    def check(self) -> None:
        """Read every file of this hospital once and raise DataError for what would fail later.

        Subclasses that read files override this; it runs once at the start of a run.
        """

    def train_loader(
        self,
        *,
        seed: int = 0,
        batches_per_step: int = 1,
        augment: bool = True,
        patients: Sequence[str] | None = None,
    ) -> DataLoader[Sample]:
        """Shuffled training batches.

        Args:
            seed: decides the order of samples and the seeds of workers.
            batches_per_step: each batch holds this many times `batch_size` samples, so that an
                algorithm can cut it into disjoint batches.
            augment: whether to augment, where the data module has an augmentation at all.
            patients: of this one hospital, or None for all that train.
        """
        if patients is None:
            dataset = self.split_dataset("train", augment=augment)
        else:
            dataset = self._patient_dataset(patients, augment=augment)
        size = self.batch_size * batches_per_step
        return DataLoader(
            dataset,
            batch_size=size,
            shuffle=True,
            drop_last=_length(dataset) >= size,  # a last batch of one sample breaks BatchNorm
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(seed),
        )

    def loader(self, part: str) -> DataLoader[Sample]:
        """Batches of one part as they are at inference: in order, without augmentation."""
        dataset = self.split_dataset(part)
        return DataLoader(dataset, batch_size=self.batch_size, num_workers=self.num_workers)

    def patient_loader(self, patients: Sequence[str]) -> DataLoader[Sample]:
        """Batches of some patients of this one hospital, as `loader` gives them."""
        dataset = self._patient_dataset(patients, augment=False)
        return DataLoader(dataset, batch_size=self.batch_size, num_workers=self.num_workers)

    def _patient_dataset(self, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        [site] = self._bound_sites()
        return self.dataset(site, patients, augment=augment)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Lightning's hook, for use of a bound datamodule with a plain `Trainer.fit`."""
        return self.train_loader(seed=self.seed)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Lightning's hook."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Lightning's hook."""
        return self.loader("test")


def _count(part: float, patients: int) -> int:
    """Number of patients that a fraction or a whole number stands for."""
    return int(part) if part >= 1 else max(1, round(part * patients))


def _length(dataset: Dataset[Sample]) -> int:
    return len(dataset)  # type: ignore[arg-type]  # torch's Dataset does not declare __len__
