import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lightning_fl.results.summary import read_results
from lightning_fl.results.tables import (
    final_table,
    read_costs,
    read_metrics,
    read_transcript,
    write_costs,
    write_metrics,
    write_transcript,
)
from lightning_fl.wire.records import CostRow, MetricRow, TranscriptRow

AWKWARD = ["plain", 'a "quoted", one', "två\nrader", "", " spaces "]


@given(value=st.floats(allow_nan=False))
def test_metric_values_read_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, value: float
) -> None:
    path = tmp_path_factory.mktemp("csv") / "metrics.csv"
    write_metrics(path, [MetricRow(1, "A", "global", "val", "dice", value)])
    [row] = read_metrics(path)
    assert row.value.hex() == value.hex()


def test_names_and_nan_read_back(tmp_path: Path) -> None:
    rows = [MetricRow(3, site, "global", "test", "loss", math.nan) for site in AWKWARD]
    write_metrics(tmp_path / "metrics.csv", rows)
    back = read_metrics(tmp_path / "metrics.csv")
    assert [row[:5] for row in back] == [row[:5] for row in rows]
    assert all(math.isnan(row.value) for row in back)


def test_costs_read_back(tmp_path: Path) -> None:
    rows = [CostRow(1, site, "train", 2**40 + 1, 7, 0.1 + 0.2) for site in AWKWARD]
    write_costs(tmp_path / "costs.csv", rows)
    assert read_costs(tmp_path / "costs.csv") == rows


def test_transcript_reads_back(tmp_path: Path) -> None:
    rows = [
        TranscriptRow(
            2, "9f", 3, "ring_pass", name, way, name, "B", 2**40 + 1, "ab" * 32, 0.1 + 0.2
        )
        for name in AWKWARD
        for way in ("in", "out")
    ]
    write_transcript(tmp_path / "transcript.csv", rows)
    assert read_transcript(tmp_path / "transcript.csv") == rows


def test_header_names_the_columns(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.csv", [])
    write_costs(tmp_path / "costs.csv", [])
    write_transcript(tmp_path / "transcript.csv", [])
    assert (tmp_path / "metrics.csv").read_text() == "round,site,model,split,metric,value\n"
    costs = "round,site,operation,bytes_up,bytes_down,seconds\n"
    assert (tmp_path / "costs.csv").read_text() == costs
    assert (tmp_path / "transcript.csv").read_text() == (
        "round,ring,step,operation,site,direction,sender,recipient,bytes,digest,seconds\n"
    )
    assert read_metrics(tmp_path / "metrics.csv") == []


@pytest.mark.parametrize("text", ["", "round,site\n1,A\n"])
def test_other_columns_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match="Expected the columns"):
        read_metrics(tmp_path / "metrics.csv")


def rendered(results: dict[str, object]) -> list[list[str]]:
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(final_table(results, "dice"))
    lines = [line for line in console.export_text().splitlines() if "│" in line or "┃" in line]
    return [line.replace("┃", "│").strip("│").split("│") for line in lines]


def test_final_table_shows_sites_then_mean_and_worst(make_run: Callable[..., Path]) -> None:
    run = make_run(sites=("B", "[red]A[/]"), unseen=("C",), gallery=False)
    results = read_results(run / "results.json")
    table = [[cell.strip() for cell in row] for row in rendered(results)]
    assert table[0] == ["site", "global", "global_bn", "personal", "gain"]
    assert [row[0] for row in table[1:]] == ["B", "[red]A[/]", "C (unseen)", "mean", "worst"]
    scores = results["sites"]["B"]
    before, after = (scores[model]["test"]["dice"] for model in ("global", "personal"))
    assert table[1][1] == f"{100 * before:.1f}"
    assert table[1][4] == f"{100 * (after - before):+.1f}"


def test_final_table_of_local_training_compares_with_local(make_run: Callable[..., Path]) -> None:
    run = make_run(models=("local", "personal"), gallery=False)
    table = rendered(read_results(run / "results.json"))
    assert [cell.strip() for cell in table[0]] == ["site", "local", "personal", "gain"]


def test_final_table_marks_sites_with_few_patients_and_shows_the_spread_over_patients(
    make_run: Callable[..., Path],
) -> None:
    results = read_results(make_run(sites=("A", "B"), gallery=False) / "results.json")
    for site, patients in (("A", 4), ("B", 5)):
        statistics = {"mean": 0.5, "sd": 0.082, "patients": patients}
        of_model = {"test": {"dice": statistics}}
        results.setdefault("cases", {})[site] = {"global": of_model, "personal": of_model}
    table = [[cell.strip() for cell in row] for row in rendered(results)]
    assert [row[0] for row in table[1:]] == ["A *", "B", "mean", "worst"]
    score = results["sites"]["A"]["personal"]["test"]["dice"]
    assert table[1][3] == f"{100 * score:.1f} ± 8.2"
    assert final_table(results, "dice").caption == "* fewer than 5 test patients"
