"""The data of a federation: one LightningDataModule, bound to one hospital at a time."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypedDict

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from lightning_fl.data.cases import collate_cases, number_cases
from lightning_fl.data.scans import Preprocessing, ScanFiles
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.seeds import derive_seed

POOLED = "pooled"
"""Name of the site that holds everybody's training patients, for the Centralised bound only."""
PARTS = ("train", "val", "test")
IGNORE = 255
"""Number in a mask that marks pixels without truth: they count in no loss and in no score."""


class Sample(TypedDict):
    """Hold one image and its mask.

    `image` is float32 of shape (channels, height, width); `mask` is int64 of shape (height, width)
    with class numbers, 0 being background.
    """

    image: Tensor
    mask: Tensor


class LabelledSample(TypedDict):
    """Hold one image or volume and its class, for classification.

    `image` is float32 of shape (channels, height, width) or (channels, depth, height, width);
    `label` is an int64 scalar, the class number.
    """

    image: Tensor
    label: Tensor


@dataclass(frozen=True)
class PatientSplit:
    """Hold the patients of one hospital, each in exactly one part."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


class FederatedDataModule(pl.LightningDataModule, ABC):
    """Hold the data of several hospitals; `for_site` binds a copy to one of them.

    Subclasses name the hospitals and patients and build the dataset of some patients. Splitting and
    loading are done here. The constructor must be cheap and must check what can be checked
    (folders, files, settings), because it runs before anything is trained.

    Args:
        batch_size: samples in a batch. Per-FedAvg draws two or three such batches for each step.
        num_workers: worker processes of a loader; 0 loads in the main process.
        val: validation patients of each hospital: a fraction below 1, or a number of patients.
        test: test patients of each hospital: a fraction below 1, or a number of patients.
        unseen: hospitals that never train and only personalise the finished model.
        folds: cut each hospital's patients into so many parts, one of which is tested, in place of
            `test`; every patient is tested once in as many runs. null for none.
        fold: which of these parts is tested, 0 to folds - 1.
        augment: transform of a training sample's image with its mask or label, never used for
            validation or test: of torchvision.transforms.v2, a dictionary transform of MONAI with
            the keys image and mask, or one of albumentations.
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
        self._seen: tuple[str, ...] | None = None

    @abstractmethod
    def site_names(self) -> tuple[str, ...]:
        """Return the names of all hospitals, those in `unseen` included."""

    @abstractmethod
    def patients(self, site: str) -> tuple[str, ...]:
        """Return the identifiers of a hospital's patients, in an order that never changes."""

    @abstractmethod
    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        """Return the samples of some patients of a hospital, in a fixed order, loaded lazily."""

    def training_sites(self) -> tuple[str, ...]:
        """Return the hospitals that take part in training: all but those in `unseen`."""
        names = self.site_names()
        unknown = sorted(set(self.unseen) - set(names))
        if unknown:
            raise ConfigError(f"`unseen` names {unknown}, but the hospitals are {sorted(names)}.")
        return tuple(name for name in names if name not in self.unseen)

    def for_site(self, site: str, seed: int) -> Self:
        """Return a copy that belongs to one hospital, or to all of them pooled (site "pooled").

        The seed of the run and the site's name decide the split.

        Raises:
            ConfigError: there is no such hospital.
        """
        if site != POOLED and site not in self.site_names():
            raise ConfigError(f"No hospital {site!r}; the hospitals are {list(self.site_names())}.")
        bound = copy.copy(self)
        bound.site = site
        bound.seed = seed
        return bound

    def for_patients(self, patients: Sequence[str]) -> Self:
        """Return a copy for a model that sees these training patients of this hospital alone.

        What a data module measures, such as a mean for normalisation, it measures on them; see
        `seen`. Validation and test samples are so prepared for that model, too.
        """
        bound = copy.copy(self)
        bound._seen = tuple(patients)
        return bound

    def seen(self, site: str) -> tuple[str, ...]:
        """Return the patients of a hospital that the model may see: those that train, or fewer."""
        return self.split(site).train if self._seen is None else self._seen

    def given_parts(self, site: str) -> Mapping[str, str]:
        """Return the part of each patient ("train", "val" or "test") that the data put into one."""
        return {}

    def given_folds(self, site: str) -> Mapping[str, int]:
        """Return the fold in which each patient is tested, where the data say so."""
        return {}

    def split(self, site: str) -> PatientSplit:
        """Split a hospital's patients by (seed, site); a patient is never in two parts.

        Parts that the data give stay as they are. A part that they lack is drawn from the patients
        without part or, if all have one, from those given to train. Patients left over train.
        A hospital in `unseen` with fewer than three patients cannot be split: all of them are test
        patients, so the model is tested there as it is.

        Raises:
            ConfigError: `folds` and the data both say who is tested.
            DataError: the hospital has fewer patients than the three parts need.
        """
        patients = self.patients(site)
        count = len(patients)
        if site in self.unseen and count < 3:
            return PatientSplit((), (), tuple(patients))
        if self.folds is not None and count < self.folds:
            raise DataError(
                f"Site {site!r} has {count} patients, which cannot be cut into `folds`: "
                f"{self.folds}. Lower `folds`, add patients, or leave the site out."
            )
        order = np.random.default_rng(derive_seed(self.seed, site, "split")).permutation(count)
        given = self.given_parts(site)
        pool = [patients[i] for i in order if given.get(patients[i], "train") == "train"]
        drawable = [patient for patient in pool if patient not in given] or pool
        test = [patient for patient in patients if given.get(patient) == "test"]
        if test and self.folds is not None:
            raise ConfigError(
                f"The data say who is tested at site {site!r}, and so does `folds`: "
                f"{self.folds}. Set `folds` to null, or take the test patients out of the data."
            )
        drawn = [] if test else self._test_patients(site, drawable)
        others = set(drawable) - set(drawn)
        val = [patient for patient in patients if given.get(patient) == "val"]
        n_val = 0 if val else _count(self.val, len(drawable))
        n_test = 0 if test else max(1, len(drawn))
        chosen = [patient for patient in drawable if patient in others][:n_val]
        train = [p for p in pool if p not in {*drawn, *chosen}]
        if len(drawable) < n_val + n_test or not train:
            raise DataError(
                f"Site {site!r} has {len(drawable)} patients{' to draw from' if given else ''}, "
                f"but its split needs at least {n_val + n_test + 1}: {n_val} for validation, "
                f"{n_test} for test and 1 to train. Add patients, lower `val` and `test`, or leave "
                "the site out."
            )
        return PatientSplit(tuple(train), tuple(val or chosen), tuple(test or drawn))

    def _test_patients(self, site: str, shuffled: list[str]) -> list[str]:
        """Choose the patients of a hospital to test; a subclass may test given ones."""
        if self.folds is None:
            return shuffled[: _count(self.test, len(shuffled))]
        if not (folds := self.given_folds(site)):
            return shuffled[self.fold :: self.folds]
        chosen = [patient for patient in shuffled if folds.get(patient) == self.fold]
        if not chosen:
            raise DataError(
                f"Site {site!r} has no patient in fold {self.fold} of its data, so none to test; "
                f"they have the folds {sorted(set(folds.values()))}. Test another `fold`, or leave "
                "the site out."
            )
        return chosen

    def preprocessing(self, site: str) -> Preprocessing | None:
        """Return how files become what a net sees, or None if new files cannot be read."""
        return None

    def pictures(self, images: Tensor) -> Tensor:
        """Return what the report shows of images (N, C, H, W): all of them, unless overridden."""
        return images

    def scans(self, site: str, patients: Sequence[str]) -> tuple[ScanFiles, ...]:
        """Return whole scans of some patients, to be segmented in three dimensions.

        `preprocessing` of the hospital reads them as `lightning_fl.data.scans.Volume`.
        """
        return ()

    def _bound_sites(self) -> tuple[str, ...]:
        if self.site is None:
            raise ConfigError("This datamodule belongs to no hospital yet; call `for_site` first.")
        return self.training_sites() if self.site == POOLED else (self.site,)

    def split_dataset(self, part: str, *, augment: bool = False) -> Dataset[Sample]:
        """Return the samples of one part ("train", "val" or "test") of this hospital."""
        datasets = [
            self.dataset(site, getattr(self.split(site), part), augment=augment)
            for site in self._bound_sites()
        ]
        return datasets[0] if len(datasets) == 1 else ConcatDataset(datasets)

    def sample_count(self, part: str) -> int:
        """Count the samples in one part of this hospital."""
        return _length(self.split_dataset(part))

    def patient_counts(self) -> dict[str, int]:
        """Count the patients in each part of this hospital (of all, if pooled)."""
        splits = [self.split(site) for site in self._bound_sites()]
        return {part: sum(len(getattr(split, part)) for split in splits) for part in PARTS}

    def split_by_site(self) -> dict[str, tuple[str, ...]]:
        """Return the patients of this hospital (of all, if pooled), by "site/part".

        An added patient changes the split, and could turn a training patient into a test patient.
        """
        splits = {site: self.split(site) for site in self._bound_sites()}
        return {
            f"{s}/{part}": getattr(split, part) for s, split in splits.items() for part in PARTS
        }

    def sites_to_check(self) -> tuple[str, ...]:
        """Return the hospitals whose files `check` reads: this one, or all if pooled or unbound."""
        if self.site is None or self.site == POOLED:
            return self.site_names()
        return (self.site,)

    def check(self) -> None:
        """Read every file of this hospital once, before round 1, and raise DataError for a bad one.

        Subclasses that read files override this.
        """

    def train_loader(
        self,
        *,
        seed: int = 0,
        batches_per_step: int = 1,
        augment: bool = True,
        patients: Sequence[str] | None = None,
    ) -> DataLoader[Sample]:
        """Return shuffled training batches.

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
        """Return batches of one part as they are at inference: in order, not augmented.

        Patients come one after the other. A sample that is a mapping gets their place in the split
        as `case`, an int64 scalar, so that scores can be taken patient by patient.
        """
        return self._in_order(
            self.dataset(site, [patient], augment=False)
            for site in self._bound_sites()
            for patient in getattr(self.split(site), part)
        )

    def patient_loader(self, patients: Sequence[str]) -> DataLoader[Sample]:
        """Return batches of some patients of this one hospital, as `loader` does."""
        [site] = self._bound_sites()
        return self._in_order(self.scored_dataset(site, [patient]) for patient in patients)

    def scored_dataset(self, site: str, patients: Sequence[str]) -> Dataset[Sample]:
        """Return the samples by which patients are scored; where training leaves some out, all."""
        return self.dataset(site, patients, augment=False)

    def pixel_size(self, site: str) -> tuple[float, ...] | None:
        """Return the edges of a mask's pixels in mm, one for each axis; None if not known.

        Distances between surfaces are then in mm, otherwise in pixels.
        """
        return None

    def _in_order(self, cases: Iterable[Dataset[Sample]]) -> DataLoader[Sample]:
        return DataLoader(
            number_cases(cases),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=collate_cases,
        )

    def _patient_dataset(self, patients: Sequence[str], *, augment: bool) -> Dataset[Sample]:
        [site] = self._bound_sites()
        return self.dataset(site, patients, augment=augment)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Serve a plain `Trainer.fit` on a bound datamodule; a hook of Lightning."""
        return self.train_loader(seed=self.seed)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Serve a plain `Trainer.validate`; a hook of Lightning."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Serve a plain `Trainer.test`; a hook of Lightning."""
        return self.loader("test")


def _count(part: float, patients: int) -> int:
    """Return the number of patients that a fraction or a whole number stands for."""
    return int(part) if part >= 1 else max(1, round(part * patients))


def _length(dataset: Dataset[Sample]) -> int:
    return len(dataset)  # type: ignore[arg-type]  # torch's Dataset does not declare __len__
