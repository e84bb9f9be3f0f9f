"""What the report shows of the scores of single patients."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_fl.results.case_statistics import (
    FEW_PATIENTS,
    SiteCases,
    Statistics,
    has_few_patients,
    marked,
    of_test_patients,
)
from lightning_fl.results.formats import (
    MISSING,
    heading,
    range_text,
    score_text,
    spread_text,
)
from lightning_fl.results.scores import MODELS

COUNTS = ("patients", "images")


def case_values(results: Mapping[str, Any], headline: str) -> dict[str, Any]:
    """Return what the section on cases shows: the headline metric and HD95 of test patients.

    Args:
        results: results.json.
        headline: the metric that the report is about.

    Returns:
        `columns`, `rows` and `few`, what the mark at a site means or "" without one; {} where no
        site has told of its patients.
    """
    cases: Mapping[str, SiteCases] = results.get("cases", {})
    metrics = _shown_metrics(cases, headline)
    rows = [row for site in cases for row in _rows(site, cases[site], metrics)]
    if not rows:
        return {}
    names = [name for metric in metrics for name in (heading(metric), "interval", "median")]
    few = any(map(has_few_patients, cases.values()))
    columns = ["site", "model", *COUNTS, *names]
    return {"columns": columns, "rows": rows, "few": FEW_PATIENTS if few else ""}


def _shown_metrics(cases: Mapping[str, SiteCases], headline: str) -> list[str]:
    measured = {
        metric
        for site in cases.values()
        for model in site.values()
        for metric in model.get("test", {})
    }
    first = headline if headline in measured else "dice"
    return [metric for metric in (first, "hd95", "hd95_px") if metric in measured]


def _rows(site: str, cases: SiteCases, metrics: Sequence[str]) -> Iterator[list[str]]:
    """Yield the row of each model of a site."""
    for model in MODELS:
        by_metric = {metric: of_test_patients(cases, model, metric) for metric in metrics}
        if any(by_metric.values()):
            # all test patients have a Dice, while a distance may be undefined
            everyone = of_test_patients(cases, model, "dice")
            counts = [str(everyone.get(name, MISSING)) for name in COUNTS]
            cells = [cell for pair in by_metric.items() for cell in _cells(*pair)]
            yield [marked(site, cases), model, *counts, *cells]


def _cells(metric: str, statistics: Statistics) -> tuple[str, str, str]:
    value = statistics.get
    return (
        spread_text(value("mean"), value("sd"), metric),
        range_text(value("low"), value("high"), metric),
        score_text(value("median"), metric),
    )
