from collections.abc import Mapping
from typing import Any

import pytest
import torch

from lightning_fl.data.module import POOLED, PatientSplit
from lightning_fl.errors import ConfigError, DataError
from tests.toy import ToyHospitals


def test_no_patient_is_in_two_parts_and_none_is_lost() -> None:
    data = ToyHospitals({"A": 20}).for_site("A", 0)
    split = data.split("A")
    everyone = [*split.train, *split.val, *split.test]
    assert sorted(everyone) == sorted(data.patients("A"))
    assert len(set(everyone)) == 20
    assert [len(part) for part in (split.train, split.val, split.test)] == [12, 4, 4]


def test_split_depends_on_seed_and_site_alone() -> None:
    few, many = ToyHospitals({"A": 9}), ToyHospitals({"B": 6, "A": 9, "C": 5})
    assert few.for_site("A", 3).split("A") == many.for_site("A", 3).split("A")
    assert few.for_site("A", 3).split("A") != few.for_site("A", 4).split("A")


def test_whole_numbers_are_patients() -> None:
    split = ToyHospitals({"A": 9}, val=2, test=3).for_site("A", 0).split("A")
    assert (len(split.train), len(split.val), len(split.test)) == (4, 2, 3)


def test_too_few_patients_name_the_site_and_the_remedy() -> None:
    with pytest.raises(DataError, match="Site 'A' has 2 patients, but its split needs at least 3"):
        ToyHospitals({"A": 2}).for_site("A", 0).split("A")
    with pytest.raises(DataError, match="needs at least 9: 4 for validation, 4 for test"):
        ToyHospitals({"A": 8}, val=4, test=4).for_site("A", 0).split("A")


def test_every_patient_is_tested_in_one_fold() -> None:
    folds = [ToyHospitals({"A": 11}, folds=5, fold=k).for_site("A", 0).split("A") for k in range(5)]
    tested = [patient for split in folds for patient in split.test]
    assert sorted(tested) == sorted(ToyHospitals({"A": 11}).patients("A"))
    for split in folds:
        assert len(split.train) + len(split.val) + len(split.test) == 11
        assert not set(split.test) & {*split.train, *split.val}


@pytest.mark.parametrize(("folds", "fold"), [(1, 0), (5, 5), (5, -1)])
def test_a_fold_that_is_not_there_is_refused(folds: int, fold: int) -> None:
    with pytest.raises(ConfigError, match=f"`fold` between 0 and .*, but got {folds} and {fold}"):
        ToyHospitals({"A": 11}, folds=folds, fold=fold)


def test_fewer_patients_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="'A' has 4 patients, which cannot be cut into `folds`: 5"):
        ToyHospitals({"A": 4}, folds=5).for_site("A", 0).split("A")


class Given(ToyHospitals):
    """Hospitals whose data say the part, or the fold, of some patients."""

    parts: Mapping[str, str] = {}
    in_folds: Mapping[str, int] = {}

    def given_parts(self, site: str) -> Mapping[str, str]:
        return self.parts

    def given_folds(self, site: str) -> Mapping[str, int]:
        return self.in_folds


def given(parts: Mapping[str, str], **settings: Any) -> PatientSplit:
    data = Given({"A": 10}, **settings)
    data.parts = parts
    return data.for_site("A", 0).split("A")


def test_a_split_that_the_data_give_in_full_is_used() -> None:
    parts = {f"A{n}": "test" if n < 5 else "val" if n < 7 else "train" for n in range(10)}
    split = given(parts)
    assert split.test == ("A0", "A1", "A2", "A3", "A4")
    assert split.val == ("A5", "A6")
    assert sorted(split.train) == ["A7", "A8", "A9"]


def test_what_the_data_leave_open_is_drawn() -> None:
    published = {f"A{n}": "test" if n < 5 else "train" for n in range(10)}
    split = given(published)  # no validation patients: drawn from those given to train
    assert len(split.test) == 5
    assert len(split.val) == 1
    assert {*split.val, *split.train} == {f"A{n}" for n in range(5, 10)}
    some = {f"A{n}": "train" for n in range(6)}  # the others have no part
    split = given(some)
    assert {*split.val, *split.test} < {"A6", "A7", "A8", "A9"}
    assert {f"A{n}" for n in range(6)} < set(split.train)


def test_given_parts_that_leave_nobody_to_train_are_refused() -> None:
    parts = {f"A{n}": "test" if n < 9 else "val" for n in range(10)}
    with pytest.raises(DataError, match=r"'A' has 0 patients to draw from, but .* 1 to train"):
        given(parts)


def test_given_test_patients_and_folds_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="who is tested at site 'A', and so does `folds`: 5"):
        given({"A0": "test"}, folds=5)


def test_folds_that_the_data_give_are_tested() -> None:
    data = Given({"A": 10}, folds=2, fold=1)
    data.in_folds = {f"A{n}": n // 7 for n in range(10)}
    split = data.for_site("A", 0).split("A")
    assert sorted(split.test) == ["A7", "A8", "A9"]
    data.in_folds = dict.fromkeys(data.in_folds, 0)
    with pytest.raises(DataError, match=r"no patient in fold 1 .*; they have the folds \[0\]"):
        data.for_site("A", 0).split("A")


def test_an_unseen_hospital_of_two_patients_is_only_tested() -> None:
    split = ToyHospitals({"A": 9, "B": 6, "C": 2}, unseen=["C"]).for_site("C", 0).split("C")
    assert (split.train, split.val, split.test) == ((), (), ("C0", "C1"))


def test_unseen_hospitals_do_not_train_and_are_not_pooled() -> None:
    data = ToyHospitals(unseen=["C"])
    assert data.training_sites() == ("A", "B")
    pooled = data.for_site(POOLED, 0)
    counts = [data.for_site(s, 0).sample_count("train") for s in ("A", "B")]
    assert pooled.sample_count("train") == sum(counts)


def test_loaders_of_some_patients_hold_theirs_and_no_others() -> None:
    data = ToyHospitals({"A": 9}).for_site("A", 0)
    first, *others = data.split("A").train
    alone = torch.cat([x for x, _ in data.patient_loader([first])])
    rest = torch.cat([x for x, _ in data.patient_loader(others)])
    everyone = torch.cat([x for x, _ in data.loader("train")])
    assert torch.equal(torch.cat([alone, rest]), everyone)
    loader = data.train_loader(seed=1, patients=[first])
    drawn = torch.cat([x for x, _ in loader])
    assert torch.equal(drawn.sort(0).values, alone.sort(0).values)


def test_all_training_patients_by_name_are_the_same_batches() -> None:
    data = ToyHospitals().for_site("A", 0)
    named = data.train_loader(seed=5, patients=data.split("A").train)
    for (x, _), (again, _) in zip(data.train_loader(seed=5), named, strict=True):
        assert torch.equal(x, again)


def test_batches_depend_on_their_seed_alone() -> None:
    data = ToyHospitals().for_site("A", 0)
    order = [torch.cat([x for x, _ in data.train_loader(seed=s)]) for s in (5, 5, 6)]
    assert torch.equal(order[0], order[1])
    assert not torch.equal(order[0], order[2])


def test_batches_grow_with_the_algorithm_and_a_small_site_keeps_its_one_batch() -> None:
    data = ToyHospitals().for_site("A", 0)
    assert {len(x) for x, _ in data.train_loader(batches_per_step=3)} == {12}
    small = ToyHospitals(batch_size=64).for_site("A", 0)
    assert [len(x) for x, _ in small.train_loader()] == [small.sample_count("train")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "`batch_size` to be at least 1, but got 0"),
        ({"val": 0}, "Expected `val` to be a fraction"),
        ({"test": 1.5}, "Expected `test` to be a fraction"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ToyHospitals(**settings)


def test_unknown_hospitals_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"No hospital 'X'; the hospitals are \['A', 'B', 'C'\]"):
        ToyHospitals().for_site("X", 0)
    with pytest.raises(ConfigError, match=r"`unseen` names \['X'\]"):
        ToyHospitals(unseen=["X"]).training_sites()
    with pytest.raises(ConfigError, match="belongs to no hospital yet"):
        ToyHospitals().train_loader()
