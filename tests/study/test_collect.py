import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lightning_fl.errors import ConfigError
from study.collect import cost, scores_of
from study.conditions import PlannedRun
from study.rows import Missing, read_records, records_of, write_records

RUN = PlannedRun("full", "fedavg", 3)


def results_of() -> dict[str, Any]:
    costs = {
        "bytes": 7,
        "seconds": {"train": 1.5, "evaluate": 0.5},
        "gradients": {"train": 100, "personalise": 20},
    }
    return {"costs": costs, "dropped": [{"round": 2, "site": "B"}]}


def test_a_run_costs_gradients_bytes_seconds_and_sites() -> None:
    spent = cost(RUN, results_of())
    assert (spent.train_gradients, spent.personalise_gradients) == (100, 20)
    assert (spent.bytes, spent.seconds, spent.losses) == (7, 2.0, 1)


def test_null_is_nan_and_a_site_without_the_model_has_no_row() -> None:
    results = {
        "sites": {"A": {"global": {"test": {"dice": None}}}, "B": {}},
        "mean": {"global": {"test": {"dice": 0.5}}},
        "worst": {"global": {"test": {"dice": 0.25}}},
    }
    rows = list(scores_of(RUN, "FedAvg", "global", results))
    assert [row.site for row in rows] == ["A", "mean", "worst"]
    assert math.isnan(rows[0].value)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    results = {group: {"global": {"test": {"dice": 0.1 + 0.2}}} for group in ("mean", "worst")}
    sites = {"NA": {"global": {"test": {"dice": None}}}}  # neither the site nor its score is lost
    records = records_of(
        scores_of(RUN, "A, B", "global", {"sites": sites, **results}),
        [cost(RUN, results_of())],
        [Missing("full", "local", 0, 'it said "no", twice')],
    )
    write_records(tmp_path, records)
    for read, written in zip(read_records(tmp_path), records, strict=True):
        pd.testing.assert_frame_equal(read, written, check_exact=True)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write_records(tmp_path, records_of([], [cost(RUN, results_of())], []))
    (tmp_path / "costs.csv").write_text("run\n")
    with pytest.raises(ConfigError, match=r"Expected the columns .* but got \['run'\]"):
        read_records(tmp_path)
