import json
import math
from pathlib import Path
from typing import Any

import pytest

from lightning_fl.results.scores import headline_metric, score_table
from lightning_fl.results.summary import read_results, summarise, write_results
from lightning_fl.wire.records import CostRow, MetricRow
from lightning_fl.wire.versions import package_versions


def row(site: str, model: str, metric: str, value: float) -> MetricRow:
    return MetricRow(5, site, model, "test", metric, value)


def summary(final: list[MetricRow], **settings: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "training_sites": ["B", "A"],
        "unseen": ["U"],
        "rounds": 8,
        "best_round": 5,
        "costs": [],
        "aggregator": {"name": "Plain"},
        "personalisation": {},
        "dropped": [],
        "versions": {},
    }
    return summarise(final=final, **{**defaults, **settings})


FINAL = [
    row("B", "global", "dice", 0.25),
    row("A", "global", "dice", 0.75),
    row("A", "personal", "dice", 1.0),
    row("B", "personal", "dice", 0.5),
    row("A", "global", "loss", 2.0),
    row("B", "global", "loss", 4.0),
    row("U", "global", "dice", 0.0),
]


def test_mean_and_worst_are_over_the_training_sites() -> None:
    results = summary(FINAL)
    assert results["mean"]["global"]["test"] == {"dice": 0.5, "loss": 3.0}
    assert results["worst"]["global"]["test"] == {"dice": 0.25, "loss": 4.0}
    assert results["mean"]["personal"]["test"] == {"dice": 0.75}
    assert results["sites"]["U"] == {"global": {"test": {"dice": 0.0}}}
    assert (results["rounds"], results["best_round"], results["unseen"]) == (8, 5, ["U"])


def test_gradients_of_training_and_of_personalisation_are_told_apart() -> None:
    chosen = {"A": {"steps": 5, "gradients": 50}, "B": {"steps": 0, "gradients": 20}, "U": {}}
    results = summary(FINAL, gradients=960, personalisation=chosen)
    assert results["costs"]["gradients"] == {"train": 960, "personalise": 70}
    assert summary(FINAL)["costs"]["gradients"] == {"train": None, "personalise": 0}


def test_order_of_rows_changes_nothing() -> None:
    assert json.dumps(summary(FINAL)) == json.dumps(summary(FINAL[::-1]))


def test_undefined_values_take_no_part() -> None:
    results = summary([row("A", "global", "dice", math.nan), row("B", "global", "dice", 0.5)])
    assert results["mean"]["global"]["test"]["dice"] == 0.5
    nothing = summary([row("A", "global", "dice", math.nan)])
    assert math.isnan(nothing["worst"]["global"]["test"]["dice"])


def test_two_values_of_one_number_are_refused() -> None:
    with pytest.raises(ValueError, match="one value of the test dice of the global model"):
        summary([FINAL[0], FINAL[0]])


def test_costs_are_added_up_by_operation_and_part() -> None:
    costs = [
        CostRow(1, "A", "train", 10, 1, 0.5),
        CostRow(1, "B", "train", 20, 2, 1.5),
        CostRow(1, "B", "train: fit", 0, 0, 4.0),
        CostRow(2, "A", "evaluate", 3, 4, 0.25),
    ]
    expected = {
        "bytes": 40,
        "bytes_up": 33,
        "bytes_down": 7,
        "seconds": {"evaluate": 0.25, "train": 2.0, "train: fit": 4.0},
        "gradients": {"train": None, "personalise": 0},
    }
    assert summary([], costs=costs)["costs"] == expected


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    final = [row("A", "global", "dice", math.nan), row("A", "global", "loss", math.inf)]
    write_results(path, summary(final))
    scores = read_results(path)["sites"]["A"]["global"]["test"]
    assert scores == {"dice": None, "loss": None}
    assert math.isnan(score_table(read_results(path), "dice").sites[0].values["global"])


def test_mean_gain_is_over_the_sites_that_have_both_models() -> None:
    final = [*FINAL, row("C", "global", "dice", 0.0)]
    mean, worst = score_table(summary(final, training_sites=["A", "B", "C"]), "dice").summary
    assert mean.gain == pytest.approx(0.25)
    assert worst.gain == pytest.approx(0.5 - 0.0)


def test_headline_is_dice_and_a_loss_only_without_anything_else() -> None:
    assert headline_metric(summary(FINAL)) == "dice"
    losses = [row("A", "global", "loss", 1.0)]
    assert headline_metric(summary(losses)) == "loss"
    assert headline_metric(summary([*losses, row("A", "global", "recall", 1.0)])) == "recall"


def test_versions_name_python_and_what_is_installed() -> None:
    versions = package_versions(["torch", "no-such-package"])
    assert list(versions) == ["python", "torch"]
