from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_fl.data.cases import collate_cases, number_cases
from lightning_fl.data.module import POOLED, FederatedDataModule
from lightning_fl.errors import ConfigError


class Scattered(FederatedDataModule):
    """Hospitals whose dataset mixes the images of its patients; patient n has n + 1 of them."""

    def __init__(self, sites: Sequence[str] = ("A",), *, key: str = "patient") -> None:
        super().__init__(batch_size=3)
        self.sites = tuple(sites)
        self.key = key

    def site_names(self) -> tuple[str, ...]:
        return self.sites

    def patients(self, site: str) -> tuple[str, ...]:
        return tuple(map(str, range(8)))

    def dataset(self, site: str, patients: Sequence[str], *, augment: bool) -> Dataset[Any]:
        images = [(i, int(p)) for p in patients for i in range(int(p) + 1)]
        samples = [{self.key: torch.tensor(p)} for _, p in sorted(images)]
        return cast("Dataset[Any]", samples)


def columns(loader: Any) -> tuple[list[int], list[int]]:
    """Numbers of the cases and names of the patients of all samples."""
    batches = list(loader)
    return tuple(torch.cat([b[k] for b in batches]).tolist() for k in ("case", "patient"))  # type: ignore[return-value]


def test_samples_carry_the_place_of_their_patient_in_the_split() -> None:
    data = Scattered().for_site("A", 0)
    cases, patients = columns(data.loader("test"))
    test = data.split("A").test
    assert [test[case] for case in cases] == list(map(str, patients))
    assert len(cases) == sum(int(p) + 1 for p in test)
    cases, patients = columns(data.patient_loader(["5", "2"]))
    assert (cases, patients) == ([0] * 6 + [1] * 3, [5] * 6 + [2] * 3)


def test_cases_of_pooled_hospitals_are_numbered_one_after_the_other() -> None:
    data = Scattered(["A", "B"]).for_site(POOLED, 0)
    cases, _ = columns(data.loader("val"))
    assert sorted(set(cases)) == list(range(2 * len(data.split("A").val)))


def test_training_batches_know_no_cases() -> None:
    assert set(next(iter(Scattered().for_site("A", 0).train_loader()))) == {"patient"}


def test_an_entry_of_that_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has the entry 'case'.* Give it another name"):
        next(iter(Scattered(key="case").for_site("A", 0).loader("val")))


def test_masks_before_resizing_stay_a_list_in_a_batch() -> None:
    class Resized(Dataset[Any]):
        """One sample, whose file has so many pixels."""

        def __init__(self, pixels: int) -> None:
            self.pixels = pixels

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Any:
            return {"mask": torch.zeros(2, dtype=torch.long)}

        def original(self, index: int) -> Tensor:
            return torch.full((self.pixels,), index)

    loader = DataLoader(
        number_cases([Resized(3), Resized(5)]), batch_size=2, collate_fn=collate_cases
    )
    [batch] = loader
    assert [mask.tolist() for mask in batch["original"]] == [3 * [0], 5 * [0]]
    assert batch["mask"].shape == (2, 2)
    assert batch["case"].tolist() == [0, 1]
