from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning_fl.results.report.secure import secure_aggregation, values_of
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.wire.records import CostRow

AGGREGATOR: dict[str, Any] = {
    "name": "CyclicCKKS",
    "bits": 24,
    "masking": "pairwise",
    "weights": "samples",
    "values": 1000,
    "rounds": [{"round": 1, "sites": 3, "rings": 2}],
}
RUN = RunFolder(
    path=Path(),
    config_text="",
    metrics=[],
    costs=[
        CostRow(1, "A", "train", 5, 5, 6.0),
        CostRow(1, "A", "ring_pass: encrypt", 0, 0, 0.5),
        CostRow(1, "A", "ring_pass", 8000, 6000, 0.25),
        CostRow(1, "B", "ring_pass: add", 0, 0, 0.25),
        CostRow(1, "B", "ring_pass", 16000, 2000, 1.0),
    ],
    transcript=[],
    results={"aggregator": AGGREGATOR},
    written=datetime(2026, 1, 1, tzinfo=UTC),
)


def section(aggregator: dict[str, Any] = AGGREGATOR) -> str:
    return secure_aggregation(replace(RUN, results={"aggregator": aggregator}))


def cells(*texts: str) -> str:
    return "".join(f"<td>{text}</td>" for text in texts)


def test_table_by_hand() -> None:
    html, none = section(), "–"  # noqa: RUF001  an en dash
    # an update of 1000 values has 4000 bytes
    a = ("8 kB", "2.00", "6 kB", "1.50", none, "0.5 s", none, none, "0.2 s")
    b = ("16 kB", "4.00", "2 kB", "0.50", none, none, "0.2 s", none, "1.0 s")
    mean = ("12 kB", "3.00", "4 kB", "1.00", none, "0.2 s", "0.1 s", none, "0.6 s")
    for row in (("A", *a), ("B", *b), ("mean", *mean)):
        assert cells(*row) in html
    assert "1,000 values of an update as float32, 4 kB" in html
    assert "The rings took 25.0 % of the sites&#x27; time" in html
    assert "round 1 took 2 rings and ended with 3 sites" in html


def test_size_of_an_update_may_be_missing() -> None:
    html = section({key: value for key, value in AGGREGATOR.items() if key != "values"})
    assert "times update" not in html
    assert cells("A", "8 kB", "6 kB") in html
    assert [values_of({"values": value}) for value in (7, 0, None, "7")] == [7, 0, 0, 0]


def test_aggregator_that_says_nothing_still_gives_a_section() -> None:
    html = section({})
    assert "<h2>Secure aggregation</h2>" in html
    assert "<p></p>" not in html


def test_clipped_values_are_listed_by_round() -> None:
    facts = {"round": 3, "sites": 4, "rings": 1, "clipped": 40}
    html = section({**AGGREGATOR, "rounds": [facts]})
    assert "round 3: 40 of 4,000 values (1 %)" in html
    assert "Clipped values" not in section()


def test_text_is_escaped() -> None:
    html = section({**AGGREGATOR, "pinned": ["<b>"], "masking": "pairwise", "weights": "<i>"})
    assert "&lt;b&gt;" in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html


def test_run_without_rings_has_no_section() -> None:
    assert secure_aggregation(replace(RUN, costs=RUN.costs[:1])) == ""
