import csv
import math
from pathlib import Path

import pytest

from benchmarks import privacy_utility
from benchmarks.privacy_utility import PrivateScore, row
from lightning_fl.privacy.accountant import GaussianStep, epsilon


def test_a_row_has_the_interval_of_the_seeds_and_the_largest_epsilon() -> None:
    scores = [PrivateScore(0.6, 8.0, 1.0), PrivateScore(0.8, 9.0, 2.0)]
    cells = list(row("a site", "1", scores).values())
    assert cells[:4] == ["a site", "1", "9", 2]
    assert cells[4] == "0.700 (-0.571 to 1.971)"  # Student's t with one degree of freedom
    clipped = row("a site", "0", [PrivateScore(0.5, math.inf, 1.0)] * 2)
    assert clipped["epsilon"] == "none"
    assert row("nobody", "none", [PrivateScore(0.5, math.nan, 1.0)] * 2)["epsilon"] == ""


def test_one_run_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "utility.csv"
    small = ["--seeds", "1", "--sites", "2", "--patients", "5", "--rounds", "2"]
    rest = ["--local_steps", "1", "--site_noise", "0", "1", "--sample_noise", "1"]
    places = ["--cache_dir", str(tmp_path / "cache"), "--csv", str(file)]
    monkeypatch.setattr("sys.argv", ["privacy_utility.py", *small, *rest, *places])
    privacy_utility.main()
    rows = list(csv.DictReader(file.open()))
    kinds = [(row["protects"], row["noise"]) for row in rows]
    assert kinds == [("nobody", "none"), ("a site", "0"), ("a site", "1"), ("a sample", "1")]
    spent = [float(row["epsilon"]) for row in rows]
    assert math.isnan(spent[0])
    assert math.isinf(spent[1])
    assert spent[2] == pytest.approx(epsilon([GaussianStep(1.0)] * 2, 1e-5))
    assert all(0 <= float(row["auroc"]) <= 1 or math.isnan(float(row["auroc"])) for row in rows)
