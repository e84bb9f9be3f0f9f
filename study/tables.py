"""The tables of a study as text cells, and as Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_fl.results.formats import (
    MISSING,
    bytes_text,
    gain_text,
    heading,
    metric_name,
    score_text,
    seconds_text,
)
from study.statistics import Interval, mean, sd
from study.study_file import Study
from study.summary import ConditionSummary, MethodSummary


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
        """The table in Markdown, its caption below."""
        lines = [self.header, ["---"] + ["--:"] * (len(self.header) - 1), *self.rows]
        table = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        return f"{table}\n\n{self.caption}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def method_table(study: Study, summary: ConditionSummary) -> TextTable:
    """One row a method: scores, differences to the reference, collapses and costs."""
    metric = study.metric
    header = [
        "method",
        f"mean {heading(metric)}",
        "worst site",
        f"mean minus {study.reference} [95 %]",
        "worst site minus its [95 %]",
        *(["collapses"] if study.floor else []),
        "gradients",
        "bytes",
        "seconds",
    ]
    rows = [_method_row(study, method) for method in summary.methods]
    return TextTable(header, rows, _method_caption(summary))


def _method_row(study: Study, method: MethodSummary) -> list[str]:
    metric = study.metric
    reference = method.name == study.reference
    collapses = f"{method.collapses} of {method.compared}" if method.compared else MISSING
    return [
        method.name,
        spread_text(method.mean, method.sd, metric),
        score_text(method.worst, metric),
        "0" if reference else interval_text(method.difference, metric),
        "0" if reference else interval_text(method.worst_difference, metric),
        *([collapses] if study.floor else []),
        f"{method.gradients:,.0f}" if math.isfinite(method.gradients) else MISSING,
        bytes_text(method.bytes) if math.isfinite(method.bytes) else MISSING,
        seconds_text(method.seconds),
    ]


def how_to_read(study: Study) -> str:
    """What holds for the tables of all conditions."""
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
    """One row a method, one column a site."""
    rows = []
    for method in summary.methods:
        values = [list(method.sites.get(site, {}).values()) for site in summary.sites]
        rows.append([method.name, *(spread_text(mean(v), sd(v), study.metric) for v in values)])
    caption = (
        f"Test {heading(study.metric)}, of each site: mean ± standard deviation over the seeds."
    )
    return TextTable(["method", *summary.sites], rows, caption)


def difference_table(study: Study, summaries: Sequence[ConditionSummary]) -> TextTable:
    """One row a method, one column a condition: the mean paired difference to the reference."""
    rows = [
        [name, *(gain_text(value, study.metric) for value in values)]
        for name, values in differences(study, summaries).items()
    ]
    caption = (
        f"Mean test {metric_name(study.metric)} minus that of {study.reference}, paired by seed."
        " The intervals are in the tables of the conditions."
    )
    return TextTable(["method", *(s.condition.name for s in summaries)], rows, caption)


def differences(
    study: Study, summaries: Sequence[ConditionSummary]
) -> dict[str, tuple[float, ...]]:
    """For each method but the reference its mean difference in each condition; NaN if none."""
    found = {}
    for name in study.methods:
        if name != study.reference:
            rows = [{m.name: m.difference.mean for m in s.methods} for s in summaries]
            found[name] = tuple(row.get(name, math.nan) for row in rows)
    return found


def spread_text(centre: float, spread: float, metric: str) -> str:
    """E.g. "61.3 ± 2.1", or "61.3" of one seed."""
    text = score_text(centre, metric)
    return f"{text} ± {score_text(spread, metric)}" if math.isfinite(spread) else text


def interval_text(interval: Interval, metric: str) -> str:
    """E.g. "+1.2 [-0.3, +2.7] n=3"; of one seed there is no interval."""
    if not interval.n:
        return MISSING
    text = gain_text(interval.mean, metric)
    if interval.n > 1:
        ends = (gain_text(end, metric) for end in (interval.low, interval.high))
        text += f" [{', '.join(ends)}]"
    return f"{text} n={interval.n}"
