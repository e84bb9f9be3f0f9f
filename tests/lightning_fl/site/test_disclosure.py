"""What of a site's scores leaves it, and what a run makes of a site that keeps its own."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from lightning_fl.results.tables import read_metrics
from lightning_fl.run.run import Run
from lightning_fl.run_files import SITES
from lightning_fl.site.disclosure import Disclosure
from lightning_fl.site.site import Site
from lightning_fl.site.terms import SiteTerms
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.records import TRAINING
from tests.toy import toy_experiment

HOSPITAL = Disclosure(SiteTerms(decimals=3, least_cases=5))


def test_scores_are_rounded_and_bounded_and_losses_stay() -> None:
    scores = {"dice": 0.12345, "hd95": math.inf, "val_Loss": 0.5, "low": -1e9}
    assert HOSPITAL.scores(scores, 5) == {"dice": 0.123, "hd95": 1e6, "low": -1e6}
    assert HOSPITAL.scores(scores, 4) == {}


def test_a_score_that_is_not_defined_stays_so() -> None:
    assert math.isnan(HOSPITAL.scores({"dice": math.nan}, 9)["dice"])


def test_statistics_of_few_patients_of_a_large_split_stay() -> None:
    rare, none = {"mean": 0.8, "patients": 4}, {"mean": math.nan, "patients": 0}
    statistics = {"dice": {"mean": 0.12345, "patients": 9}, "dice/2": rare, "dice/3": none}
    told = HOSPITAL.scores(statistics, 9)
    assert told["dice"] == {"mean": 0.123, "patients": 9}
    assert set(told) == {"dice", "dice/3"}


def test_a_simulated_site_tells_everything_as_it_is() -> None:
    scores: dict[str, Any] = {"loss": 0.123456789, "dice/2": {"mean": 0.1234567, "patients": 0}}
    assert Disclosure(SiteTerms()).scores(scores, 1) == scores


class OneKeepsItsScores(Run):
    """A run in which hospital C has too few patients for its own terms."""

    def make_site(self, name: str) -> Site:
        terms = SiteTerms(least_cases=50) if name == "C" else SiteTerms()
        return self.blueprint.make_site(name, self.run_id, self.folder / SITES / name, terms)


def test_a_site_that_keeps_its_scores_has_no_say_and_no_row(tmp_path: Path) -> None:
    results = OneKeepsItsScores(toy_experiment(), tmp_path / "run", Monitor()).start()
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    scored = [row for row in rows if row.model != TRAINING]
    assert {row.site for row in scored} == {"A", "B"}
    losses = [
        fmean(r.value for r in scored if (r.round, r.model, r.split) == (round_, "global", "val"))
        for round_ in range(3)
    ]
    assert results["best_round"] == losses.index(min(losses))
    assert set(results["sites"]) == {"A", "B"}
    assert results["dropped"] == []
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
