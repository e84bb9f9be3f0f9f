import math
from pathlib import Path
from typing import Any

from lightning_fl.study.collect import cost, scores
from lightning_fl.study.plan import PlannedRun
from lightning_fl.study.records import Missing, Records, read_records, write_records

RUN = PlannedRun("full", "fedavg", 3)
COSTS: dict[str, Any] = {"bytes": 7, "seconds": {"train": 1.5, "evaluate": 0.5}}


def test_gradients_that_a_run_did_not_count_are_none() -> None:
    counted = cost(RUN, {"costs": COSTS | {"gradients": {"train": 100, "personalise": 20}}})
    assert (counted.train_gradients, counted.personalise_gradients) == (100, 20)
    old = cost(RUN, {"costs": COSTS})
    assert (old.train_gradients, old.personalise_gradients) == (None, None)
    assert (old.bytes, old.seconds) == (7, 2.0)


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
        [cost(RUN, {"costs": COSTS}), cost(RUN, {"costs": COSTS | {"gradients": {"train": 3}}})],
        [Missing("full", "local", 0, 'it said "no", twice')],
    )
    write_records(tmp_path, records)
    assert read_records(tmp_path) == records
