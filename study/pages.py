"""Write report.md and report.html of a study, from its records alone."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lightning_fl.files import write_text
from study.collect import missing_of
from study.comparison import ConditionSummary, summarise
from study.conditions import Condition
from study.dot_plot import TEMPLATES, better_or_worse, dot_plot
from study.rows import Missing, Records
from study.statistics import Interval
from study.study_file import Study
from study.text_tables import (
    difference_table,
    differences_of,
    how_to_read,
    method_table,
    site_table,
)


def write_reports(
    folder: Path,
    study: Study,
    conditions: Sequence[Condition],
    records: Records,
    *,
    title: str,
    command: str,
) -> list[Missing]:
    """Write both pages with the methods of `study` and the seeds of `conditions`.

    Returns:
        What is missing in the tables.
    """
    summaries = [summarise(study, condition, records) for condition in conditions]
    missing = missing_of(study, conditions, records)
    differences = differences_of(study, summaries)
    page = {
        "title": title,
        "command": command,
        "study": study,
        "seeds": sorted({seed for condition in conditions for seed in condition.seeds}),
        "missing": missing,
        "how_to_read": how_to_read(study),
        "differences": difference_table(study, differences),
        "shades": _shades(differences, study.metric),
        "summaries": summaries,
        "method_table": method_table,
        "site_table": site_table,
        "intervals": _intervals,
        "dot_plot": dot_plot,
    }
    for template, name in (("study.md", "report.md"), ("study.html", "report.html")):
        write_text(folder / name, TEMPLATES.get_template(template).render(page))
    return missing


def _intervals(study: Study, summary: ConditionSummary) -> Mapping[str, Mapping[str, Interval]]:
    """Return what is plotted for a condition: title -> method -> difference to the reference."""
    others = [method for method in summary.methods if method.name != study.reference]
    return {
        "mean over the training sites": {method.name: method.difference for method in others},
        "worst site": {method.name: method.worst_difference for method in others},
    }


def _shades(differences: pd.DataFrame, metric: str) -> dict[str, list[str]]:
    """Return each cell's colour by its sign, the stronger the larger the difference."""
    largest = differences.abs().max().max() or 1.0

    def shade(value: float) -> str:
        if not math.isfinite(value):
            return "none"
        return f"{better_or_worse(value, metric)}{round(0.6 * 255 * abs(value) / largest):02x}"

    return {name: [shade(value) for value in values] for name, *values in differences.itertuples()}
