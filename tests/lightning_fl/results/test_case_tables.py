import math
from pathlib import Path

import pytest
import torch

from lightning_fl.results.case_statistics import case_statistics
from lightning_fl.results.case_tables import (
    CaseRow,
    case_rows,
    keep_cases,
    read_cases,
    write_cases,
)
from lightning_fl.run_files import CASES, SITES
from lightning_fl.training.case_scores import CaseScores, Values

NAMES = ("p0", "p1", "p2")


def values(mean: list[float], second: list[float]) -> Values:
    """HD95 as the mean over classes and of class 2."""
    columns = (torch.tensor(v, dtype=torch.float64) for v in (mean, second))
    return dict(zip([("", "hd95"), ("2", "hd95")], columns, strict=True))


@pytest.fixture
def scores() -> CaseScores:
    """Patient 2 with the images 0 and 2, and patient 0 with image 1; class 2 is rare."""
    patients = values([0.75, 0.5], [math.nan, 0.25])
    images = values([0.5, 0.75, math.nan], [0.25, math.nan, math.nan])
    return CaseScores([0, 2], patients, images, torch.tensor([1, 0, 1]))


def test_patients_and_their_images_have_rows_by_name(scores: CaseScores) -> None:
    rows = list(case_rows(scores, NAMES, site="A", model="global", split="test"))
    assert {(r.site, r.model, r.split, r.metric) for r in rows} == {("A", "global", "test", "hd95")}
    assert [(r.case, r.image, r.label) for r in rows] == [
        *(("p0", "", label) for label in ("", "2")),
        *(("p2", image, label) for image in ("", "1", "2") for label in ("", "2")),
    ]
    assert [r.value for r in rows] == pytest.approx(
        [0.75, math.nan, 0.5, 0.25, 0.5, 0.25, math.nan, math.nan], nan_ok=True
    )


def test_statistics_are_over_patients_and_count_what_is_defined(scores: CaseScores) -> None:
    statistics = case_statistics(scores, seed=0)
    assert set(statistics) == {"hd95", "hd95/2"}
    both, rare = statistics["hd95"], statistics["hd95/2"]
    assert (both["mean"], both["patients"], both["images"]) == (0.625, 2, 2)
    assert (rare["mean"], rare["patients"], rare["images"]) == (0.25, 1, 1)


def row(site: str) -> CaseRow:
    return CaseRow(site, "p", "", "", "global", "val", "dice", 1 / 3)


def test_a_run_keeps_the_rows_of_the_sites_whose_folders_it_has(tmp_path: Path) -> None:
    for site in ("B", "A", "stale"):
        (tmp_path / SITES / site).mkdir(parents=True)
        write_cases(tmp_path / SITES / site / CASES, [row(site)])
    keep_cases(tmp_path, ["A", "elsewhere", "B"])
    assert read_cases(tmp_path / CASES) == [row("A"), row("B")]


def test_a_run_without_cases_has_no_file_of_them(tmp_path: Path) -> None:
    keep_cases(tmp_path, ["A"])
    assert not (tmp_path / CASES).exists()
