from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datamodules import ByColumn, BySize, Dirichlet
from datamodules.index import Row
from lightning_fl.errors import ConfigError, DataError


def row(patient: int, label: float = 0, **others: Any) -> Row:
    fixed: Any = {"part": "train", "fold": None, "place": f"t.csv, line {patient}", "mask": None}
    labels = {"label": float(label)}
    cells = {name: str(value) for name, value in others.items()}
    images = (Path(f"{patient}.png"),)
    site = cells.pop("site", "all")
    return Row(site, f"p{patient}", images=images, labels=labels, others=cells, **fixed)


PATIENTS = [row(number, number % 3) for number in range(90)]


def test_a_column_names_the_hospitals() -> None:
    rows = ByColumn("scanner")([row(1, scanner="GE"), row(1, scanner="GE"), row(2, scanner="S")])
    assert [new.site for new in rows] == ["GE", "GE", "S"]
    assert rows[0].patient == "p1"
    assert rows[0].part == "train"
    with pytest.raises(DataError, match=r"line 1: patient 'p1' has scanner 'S', but needs .* 'GE'"):
        ByColumn("scanner")([row(1, scanner="GE"), row(1, scanner="S")])
    with pytest.raises(ConfigError, match=r"has the column 'age', but the data have \['scanner'\]"):
        ByColumn("age")([row(1, scanner="GE")])


def test_sizes_are_those_asked_for_and_depend_on_the_seed_alone() -> None:
    sizes = Counter(new.site for new in BySize([0.5, 0.3, 0.2])(PATIENTS))
    assert sizes == {"site_01": 45, "site_02": 27, "site_03": 18}
    assert BySize(4)(PATIENTS) == BySize(4)(PATIENTS) != BySize(4, seed=1)(PATIENTS)
    with pytest.raises(ConfigError, match=r"2 patients leave a hospital .* without any"):
        BySize(5)(PATIENTS[:2])
    with pytest.raises(ConfigError, match="Expected shares above 0"):
        BySize([1, 0])(PATIENTS)


def test_all_rows_of_a_patient_go_to_one_hospital() -> None:
    rows = Dirichlet(0.5, 3)([*PATIENTS, *PATIENTS])
    assert [new.site for new in rows[:90]] == [new.site for new in rows[90:]]


def spread(alpha: float) -> float:
    """The largest share of one class at a hospital, in the mean over hospitals."""
    by_site: dict[str, Counter[float]] = {}
    for new in Dirichlet(alpha, 3)(PATIENTS):
        by_site.setdefault(new.site, Counter())[new.labels["label"]] += 1
    return sum(max(c.values()) / c.total() for c in by_site.values()) / len(by_site)


def test_a_small_alpha_sets_hospitals_apart() -> None:
    assert spread(100) < 0.5 < 0.6 < spread(0.1)


def test_the_smallest_hospital_keeps_its_minimum() -> None:
    sizes = Counter(new.site for new in Dirichlet(0.3, 4, min_size=10)(PATIENTS))
    assert len(sizes) == 4
    assert min(sizes.values()) >= 10
    assert sum(sizes.values()) == 90


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (Dirichlet(1, 10, min_size=10), "10 sites of 10 patients need 100, but there are 90"),
        (Dirichlet(0.001, 9, min_size=10), "None of 1000 draws with `alpha` 0.001"),
        (Dirichlet(0, 2), "Expected `alpha` above 0"),
        (Dirichlet(1, 0), "Expected `sites` to be at least 1"),
    ],
)
def test_what_cannot_be_dealt_is_an_error_and_no_loop(partition: Dirichlet, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        partition(PATIENTS)


def test_dirichlet_needs_labels() -> None:
    with pytest.raises(DataError, match=r"line 1 has no label 'grade', but the labels \['label'\]"):
        Dirichlet(1, 2, label="grade")([row(1)])


def test_one_name_for_two_persons_is_refused() -> None:
    with pytest.raises(DataError, match=r"patient 'p1' is at 'B', but at 'A' in .*line 1"):
        BySize(2)([row(1, site="A"), row(1, site="B")])
