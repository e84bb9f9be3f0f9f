import math

import pytest

from lightning_fl.results.report.ring_costs import RingCosts, mean_costs, ring_costs, ring_share
from lightning_fl.wire.records import CostRow

ROWS = [
    CostRow(0, "A", "describe", 5, 5, 100.0),
    CostRow(0, "A", "load", 5, 5, 100.0),
    CostRow(1, "A", "train", 5, 5, 10.0),
    CostRow(1, "A", "ring_open: keys", 0, 0, 0.5),
    CostRow(1, "A", "ring_open", 100, 40, 0.5),
    CostRow(1, "A", "ring_pass: encrypt", 0, 0, 2.0),
    CostRow(1, "A", "ring_pass", 300, 160, 1.0),
    CostRow(2, "A", "ring_pass: encrypt", 0, 0, 4.0),
    CostRow(2, "A", "ring_pass", 600, 800, 1.0),
    CostRow(2, "A", "ring_close: decrypt", 0, 0, 3.0),
    CostRow(2, "B", "ring_pass: encrypt", 0, 0, 5.0),
    CostRow(2, "B", "ring_pass: add", 0, 0, 1.0),
    CostRow(2, "B", "ring_pass", 900, 700, 2.0),
    CostRow(2, "B", "load", 5, 5, 20.0),
    CostRow(2, "B", "personalise", 5, 5, 100.0),
]
A = RingCosts("A", 500, 500, {"other": 1.5, "encrypt": 3.0, "decrypt": 1.5})
B = RingCosts("B", 900, 700, {"encrypt": 5.0, "add": 1.0, "other": 2.0})


def test_costs_are_means_over_the_rounds_of_each_site() -> None:
    # A has two rounds and B one; making keys is not shown by itself
    assert ring_costs(ROWS) == [A, B]


def test_mean_over_sites_counts_a_missing_part_as_nothing() -> None:
    seconds = {"other": 1.75, "encrypt": 4.0, "decrypt": 0.75, "add": 0.5}
    assert mean_costs([A, B]) == RingCosts("mean", 700, 600, seconds)


def test_share_is_of_the_rounds_alone() -> None:
    # rings 0.5 + 0.5 + 2 + 1 + 4 + 1 + 3 + 5 + 1 + 2 = 20 of these and 10 (train) and 20 (load)
    assert ring_share(ROWS) == pytest.approx(20 / 50)


def test_run_without_a_ring_has_no_costs_of_one() -> None:
    assert ring_costs(ROWS[:3]) == []
    assert ring_share(ROWS[:3]) == 0.0
    assert math.isnan(ring_share([]))
