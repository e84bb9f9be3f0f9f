import logging
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lightning_fl.results.case_statistics import (
    describe_values,
    has_few_patients,
    marked,
    received_cases,
)


def test_values_are_described_without_those_that_are_not_defined() -> None:
    described = describe_values(np.array([0.1, math.nan, 0.5, 0.9, 0.6]), seed=0)
    assert described["mean"] == pytest.approx(2.1 / 4)
    assert described["sd"] == pytest.approx(np.std([0.1, 0.5, 0.9, 0.6], ddof=1))
    assert described["median"] == pytest.approx(0.55)
    assert described["patients"] == 4


def test_the_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(0).beta(5, 2, size=30)
    described = describe_values(values, seed=1)
    reference = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile")
    spread = values.std() / math.sqrt(len(values))
    interval = (described["low"], described["high"])
    assert interval == pytest.approx(tuple(reference.confidence_interval), abs=0.2 * spread)
    assert describe_values(values, seed=1) == described
    assert describe_values(values, seed=2)["low"] != described["low"]


def test_one_patient_has_neither_spread_nor_interval_and_none_has_nothing() -> None:
    one = describe_values(np.array([0.5]), seed=0)
    assert (one["mean"], one["median"], one["patients"]) == (0.5, 0.5, 1)
    assert all(math.isnan(one[name]) for name in ("sd", "low", "high"))
    nobody = describe_values(np.array([math.nan]), seed=0)
    assert nobody.pop("patients") == 0
    assert all(map(math.isnan, nobody.values()))


def cases_of(patients: int | None) -> Any:
    statistics = {"mean": 0.5} | ({} if patients is None else {"patients": patients})
    return {"global": {"test": {"dice": statistics}}}


def test_a_site_with_fewer_than_five_test_patients_is_marked() -> None:
    assert marked("B", cases_of(4)) == "B *"
    assert marked("B", cases_of(5)) == "B"


def test_hidden_counts_and_sites_without_test_patients_are_not_marked() -> None:
    assert not has_few_patients(cases_of(None))
    assert not has_few_patients({"global": {"val": {"dice": {"patients": 1}}}})


def test_only_numbers_are_taken_from_a_sites_answer() -> None:
    answer = cases_of(3)
    answer["global"]["test"]["dice"] |= {"names": ["P1"], "high": 1}
    [statistics] = received_cases({"A": answer})["A"]["global"]["test"].values()
    assert statistics == {"mean": 0.5, "patients": 3, "high": 1.0}


@pytest.mark.parametrize(
    "answer",
    [
        ["dice"],
        {"global": 3},
        {"global": {"test": {"dice": {"mean": "<b>"}}}},
        {"global": {"test": {"dice": {"mean": None}}}},
        {"global": {"test": {"dice": {"patients": math.inf}}}},
    ],
)
def test_an_answer_that_holds_something_else_costs_only_its_own_site(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(received_cases({"A": answer, "B": cases_of(3), "C": {}})) == {"B"}
    assert "site 'A' gave no statistics of its patients" in caplog.text
