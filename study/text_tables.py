"""Write the tables of a study as text cells, and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lightning_fl.results.formats import (
    MISSING,
    bytes_text,
    gain_text,
    heading,
    metric_name,
    score_text,
    seconds_text,
)
from study.comparison import ConditionSummary, MethodSummary
from study.statistics import Interval
from study.study_file import Study


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes:
        header: names of the columns; the first column is text, the others are numbers.
        rows: the cells.
        caption: what the table shows.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str

    def markdown(self) -> str:
        """Return the table in Markdown, its caption below."""
        lines = [self.header, ["---"] + ["--:"] * (len(self.header) - 1), *self.rows]
        cells = [[cell.replace("|", r"\|") for cell in line] for line in lines]
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        return f"{table}\n\n{self.caption}"


def method_table(study: Study, summary: ConditionSummary) -> TextTable:
    """Return one row a method: scores, differences to the reference, collapses and costs."""
    rows = [_method_row(study, method) for method in summary.methods]
    return TextTable(list(rows[0]), [list(row.values()) for row in rows], _method_caption(summary))


def _method_row(study: Study, method: MethodSummary) -> dict[str, str]:
    """Return the cells by the names of their columns."""
    metric, scores = study.metric, method.scores
    difference, worst_difference = (
        "0" if method.name == study.reference else interval_text(interval, metric)
        for interval in (method.difference, method.worst_difference)
    )
    collapses = f"{method.collapses} of {method.compared}" if method.compared else MISSING
    return {
        "method": method.name,
        f"mean {heading(metric)}": spread_text(scores["mean"], metric),
        "worst site": score_text(scores["worst"].mean(), metric),
        f"mean minus {study.reference} [95 %]": difference,
        "worst site minus its [95 %]": worst_difference,
        **({"collapses": collapses} if study.floor else {}),
        "gradients": f"{method.gradients:,.0f}" if math.isfinite(method.gradients) else MISSING,
        "bytes": bytes_text(method.bytes) if math.isfinite(method.bytes) else MISSING,
        "seconds": seconds_text(method.seconds),
    }


def how_to_read(study: Study) -> str:
    """Return what holds for the tables of all conditions."""
    words = (
        f"Test {metric_name(study.metric)}: the mean over the training sites, as mean ± standard"
        " deviation over the seeds, and the worst training site, mean over the seeds. Differences"
        " are paired by seed; in brackets the 95 % interval of Student's t, n the number of pairs."
        " Gradients, bytes and seconds are those of a run, all sites together, mean over the"
        " seeds. Gradients of personalisation count for models that it fitted: those of the whole"
        " list of candidates of the run, unseen hospitals included."
    )
    if study.floor:
        words += (
            " A collapse is a site's score, for one seed, below half of that of"
            f" {' or '.join(study.floor)}."
        )
    return words


def _method_caption(summary: ConditionSummary) -> str:
    words = "Scores, differences and costs."
    if summary.unequal:
        fewest, most = summary.unequal
        words += (
            " The methods did NOT make equally many gradients:"
            f" {fewest.name} made {fewest.gradients:,.0f} and {most.name} {most.gradients:,.0f}."
        )
    if summary.losses:
        runs = ", ".join(f"{run} ({count})" for run, count in summary.losses.items())
        words += f" Sites dropped out of rounds of {runs}; the runs' own reports say why."
    return words


def site_table(study: Study, summary: ConditionSummary) -> TextTable:
    """Return one row a method, one column a site."""
    rows = []
    for method in summary.methods:
        scores = method.scores.reindex(columns=summary.sites)
        rows.append([method.name, *(spread_text(scores[site], study.metric) for site in scores)])
    caption = (
        f"Test {heading(study.metric)}, of each site: mean ± standard deviation over the seeds."
    )
    return TextTable(["method", *summary.sites], rows, caption)


def difference_table(study: Study, differences: pd.DataFrame) -> TextTable:
    """Return `differences` as text."""
    caption = (
        f"Mean test {metric_name(study.metric)} minus that of {study.reference}, paired by seed."
        " The intervals are in the tables of the conditions."
    )
    rows = [
        [name, *(gain_text(value, study.metric) for value in values)]
        for name, *values in differences.itertuples()
    ]
    return TextTable(["method", *differences], rows, caption)


def differences_of(study: Study, summaries: Sequence[ConditionSummary]) -> pd.DataFrame:
    """Return the mean paired differences to the reference.

    A row for each other method, a column for each condition; NaN where there is none.
    """
    columns = {
        summary.condition.name: {m.name: m.difference.mean for m in summary.methods}
        for summary in summaries
    }
    others = [name for name in study.methods if name != study.reference]
    return pd.DataFrame(columns, index=others, dtype=float)


def spread_text(values: pd.Series, metric: str) -> str:
    """Return mean and standard deviation, e.g. "61.3 ± 2.1", or "61.3" of one seed."""
    text = score_text(values.mean(), metric)
    return f"{text} ± {score_text(values.std(), metric)}" if values.count() > 1 else text


def interval_text(interval: Interval, metric: str) -> str:
    """Return e.g. "+1.2 [-0.3, +2.7] n=3"; of one seed there is no interval."""
    if not interval.n:
        return MISSING
    text = gain_text(interval.mean, metric)
    if interval.n > 1:
        ends = (gain_text(end, metric) for end in (interval.low, interval.high))
        text += f" [{', '.join(ends)}]"
    return f"{text} n={interval.n}"
