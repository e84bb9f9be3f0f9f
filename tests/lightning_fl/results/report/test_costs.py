from datetime import UTC, datetime
from pathlib import Path

from lightning_fl.results.report.costs import by_operation, costs, split_operation
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.wire.records import CostRow

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


def page_of(rows: list[CostRow]) -> str:
    written = datetime(2026, 1, 1, tzinfo=UTC)
    return costs(RunFolder(Path(), "", [], rows, [], {}, written))


def cells(*texts: str) -> str:
    return "".join(f"<td>{text}</td>" for text in texts)


def test_parts_are_named_after_a_colon() -> None:
    assert split_operation("ring_pass: encrypt") == ("ring_pass", "encrypt")
    assert split_operation("train") == ("train", "")


def test_operations_stand_in_the_order_in_which_they_were_done() -> None:
    assert list(by_operation(ROWS)) == ["train", "ring_pass"]


def test_table_by_hand() -> None:
    html = page_of(ROWS)
    train = ("40 bytes", "6 kB", "3.0 s", "20 bytes", "3 kB", "1.5 s")
    assert cells("train", *train) in html
    # two turns, A's and B's; seconds 0.25 + 0.75 + 1 and the parts' 0.5 + 1.5 + 4
    ring = ("2 kB", "1.8 kB", "8.0 s", "1 kB", "900 bytes", "4.0 s")
    assert cells("ring_pass", *ring) in html
    assert cells("\u2003of which encrypt", "", "", "2.0 s", "", "", "1.0 s") in html
    assert cells("\u2003of which add", "", "", "4.0 s", "", "", "2.0 s") in html
    assert cells("all", "2.04 kB", "7.8 kB", "11.0 s", "", "", "") in html
