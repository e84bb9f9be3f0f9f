import math

import pytest

from lightning_fl.results.report.cost_section import (
    cost_frame,
    operation_costs,
    ring_costs,
    ring_share,
    ring_values,
)
from lightning_fl.results.report.rendering import render
from lightning_fl.wire.records import CostRow
from tests.lightning_fl.results.page_text import cells

ROWS = [
    CostRow(1, "B", "train", 10, 4000, 1.0),
    CostRow(1, "A", "train", 30, 2000, 2.0),
    CostRow(1, "A", "ring_pass: encrypt", 0, 0, 0.5),
    CostRow(1, "A", "ring_pass", 800, 600, 0.25),
    CostRow(1, "A", "ring_pass: encrypt", 0, 0, 1.5),
    CostRow(1, "A", "ring_pass", 200, 600, 0.75),
    CostRow(1, "B", "ring_pass: add", 0, 0, 4.0),
    CostRow(1, "B", "ring_pass", 1000, 600, 1.0),
]
RINGS = [
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
A = {"bytes_up": 500, "bytes_down": 500, "encrypt": 3.0, "decrypt": 1.5, "other": 1.5}
B = {"bytes_up": 900, "bytes_down": 700, "encrypt": 5.0, "add": 1.0, "other": 2.0}


def test_parts_are_named_after_a_colon() -> None:
    frame = cost_frame([*ROWS[:1], *ROWS[2:3]])
    assert frame[["whole", "part"]].to_numpy().tolist() == [["train", ""], ["ring_pass", "encrypt"]]


def test_operations_stand_in_the_order_in_which_they_were_done() -> None:
    names = [costs.operation for costs in operation_costs(cost_frame(ROWS))]
    assert names == ["train", "ring_pass"]


def test_table_by_hand() -> None:
    html = render("costs.html", costs=operation_costs(cost_frame(ROWS)))
    train = ("40 bytes", "6 kB", "3.0 s", "20 bytes", "3 kB", "1.5 s")
    assert cells("train", *train) in html
    # two turns, A's and B's; seconds 0.25 + 0.75 + 1 and the parts' 0.5 + 1.5 + 4
    ring = ("2 kB", "1.8 kB", "8.0 s", "1 kB", "900 bytes", "4.0 s")
    assert cells("ring_pass", *ring) in html
    assert cells("\u2003of which encrypt", "", "", "2.0 s", "", "", "1.0 s") in html
    assert cells("\u2003of which add", "", "", "4.0 s", "", "", "2.0 s") in html
    assert cells("all", "2.04 kB", "7.8 kB", "11.0 s", "", "", "") in html


def test_ring_costs_are_means_over_the_rounds_of_each_site() -> None:
    # A has two rounds and B one; making keys is not shown by itself
    costs = ring_costs(cost_frame(RINGS))
    assert {site: row.dropna().to_dict() for site, row in costs.iterrows()} == {"A": A, "B": B}


def test_mean_over_sites_counts_a_missing_part_as_nothing() -> None:
    mean = ring_values(cost_frame(RINGS), [])["mean"]
    assert math.isnan(mean.pop("encode"))  # no site had it
    seconds = {"other": 1.75, "encrypt": 4.0, "decrypt": 0.75, "add": 0.5}
    assert mean == {"bytes_up": 700, "bytes_down": 600, **seconds}


def test_share_is_of_the_rounds_alone() -> None:
    # rings 0.5 + 0.5 + 2 + 1 + 4 + 1 + 3 + 5 + 1 + 2 = 20 of these and 10 (train) and 20 (load)
    assert ring_share(cost_frame(RINGS)) == pytest.approx(20 / 50)


def test_run_without_a_ring_has_no_costs_of_one() -> None:
    frame = cost_frame(RINGS[:3])
    assert ring_costs(frame).empty
    assert ring_values(frame, []) == {}
    assert ring_share(frame) == 0.0
