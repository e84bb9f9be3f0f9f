import math
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.errors import ConfigError
from study.collect import cost, scores
from study.plan import PlannedRun
from study.records import Missing, Records, read_records, write_records

RUN = PlannedRun("full", "fedavg", 3)
COSTS: dict[str, Any] = {"bytes": 7, "seconds": {"train": 1.5, "evaluate": 0.5}}


def results_of(**costs: Any) -> dict[str, Any]:
    return {"costs": COSTS | costs, "dropped": [{"round": 2, "site": "B"}]}


def test_gradients_that_a_run_did_not_count_are_none() -> None:
    counted = cost(RUN, results_of(gradients={"train": 100, "personalise": 20}))
    assert (counted.train_gradients, counted.personalise_gradients) == (100, 20)
    old = cost(RUN, results_of())
    assert (old.train_gradients, old.personalise_gradients) == (None, None)
    assert (old.bytes, old.seconds, old.losses) == (7, 2.0, 1)


def test_null_is_nan_and_a_site_without_the_model_has_no_row() -> None:
    results = {
        "sites": {"A": {"global": {"test": {"dice": None}}}, "B": {}},
        "mean": {"global": {"test": {"dice": 0.5}}},
        "worst": {"global": {"test": {"dice": 0.25}}},
    }
    rows = list(scores(RUN, "FedAvg", "global", results))
    assert [row.site for row in rows] == ["A", "mean", "worst"]
    assert math.isnan(rows[0].value)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    results = {group: {"global": {"test": {"dice": 0.1 + 0.2}}} for group in ("mean", "worst")}
    records = Records(
        list(scores(RUN, "A, B", "global", {"sites": {}, **results})),
        [cost(RUN, results_of()), cost(RUN, results_of(gradients={"train": 3}))],
        [Missing("full", "local", 0, 'it said "no", twice')],
    )
    write_records(tmp_path, records)
    assert read_records(tmp_path) == records


def test_costs_of_before_losses_were_counted_are_read(tmp_path: Path) -> None:
    write_records(tmp_path, Records([], [cost(RUN, results_of())], []))
    file = tmp_path / "costs.csv"
    lines = file.read_text().splitlines()
    file.write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
    assert [row.losses for row in read_records(tmp_path).costs] == [None]
    file.write_text("run\n")
    with pytest.raises(ConfigError, match=r"Expected the columns .* but got \['run'\]"):
        read_records(tmp_path)
