"""report.md and report.html of a study, made of its records alone."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lightning_fl.files import write_text
from lightning_fl.results.formats import LOWER_IS_BETTER, MISSING, gain_text, gain_unit, metric_name
from lightning_fl.results.report import page
from study.dot_plot import BETTER, WORSE, dot_plot
from study.plan import Condition
from study.records import Missing, Records
from study.study_file import Study
from study.summary import ConditionSummary, is_shown, summarise
from study.tables import (
    TextTable,
    difference_table,
    differences,
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
    """Write both pages.

    Args:
        folder: of the study.
        study: with the methods to show.
        conditions: with the seeds to show.
        records: of the runs.
        title: of the pages.
        command: that made them.

    Returns:
        What is missing.
    """
    summaries = [summarise(study, condition, records) for condition in conditions]
    missing = missing_of(study, conditions, records)
    write_text(folder / "report.md", _markdown(study, summaries, missing, title, command))
    write_text(folder / "report.html", _html(study, summaries, missing, title, command))
    return missing


def missing_of(study: Study, conditions: Sequence[Condition], records: Records) -> list[Missing]:
    """The runs, and the models of runs, that the tables are without."""
    there = {row[:3] for row in records.costs}
    used = {method.run for method in study.methods.values()}
    found = []
    for condition in conditions:
        for run in (run for run in condition.runs if run in used):
            for seed in condition.seeds:
                key = (condition.name, run, seed)
                reported = [row for row in records.missing if row[:3] == key]
                if key in there:
                    found += reported + _without_scores(study, key, records)
                else:
                    found += reported or [Missing(*key, "not run yet")]
    return found


def _without_scores(study: Study, key: tuple[str, str, int], records: Records) -> list[Missing]:
    """The methods of a finished run that the CSV files are older than."""
    condition, run, seed = key
    there = {
        (row.method, row.model)
        for row in records.scores
        if (row.condition, row.run, row.seed) == key and is_shown(row, study.metric)
    }
    reasons = [row.reason for row in records.missing if row[:3] == key]
    return [
        Missing(condition, run, seed, f"{name}: not in scores.csv")
        for name, method in study.methods.items()
        if method.run == run
        and (name, method.model) not in there
        and not any(reason.startswith(f"{name}: ") for reason in reasons)
    ]


def _markdown(
    study: Study,
    summaries: Sequence[ConditionSummary],
    missing: Sequence[Missing],
    title: str,
    command: str,
) -> str:
    parts = [f"# {title}", f"```\n{command}\n```"]
    if missing:
        parts.append("**Missing**\n\n" + "\n".join(f"- {missing_text(row)}" for row in missing))
    parts.append(how_to_read(study))
    if len(summaries) > 1:
        table = difference_table(study, summaries)
        parts += [f"## Differences to {study.reference}", table.markdown()]
    for summary in summaries:
        parts.append(f"## {summary.condition.name}")
        if summary.methods:
            tables = method_table(study, summary), site_table(study, summary)
            parts += [table.markdown() for table in tables]
        else:
            parts.append("No run of this condition is finished.")
    return "\n\n".join(parts) + "\n"


def _html(
    study: Study,
    summaries: Sequence[ConditionSummary],
    missing: Sequence[Missing],
    title: str,
    command: str,
) -> str:
    seeds = sorted({seed for summary in summaries for seed in summary.condition.seeds})
    about = f"{len(study.methods)} methods, seeds {', '.join(map(str, seeds))}"
    return page.page(
        title,
        f"<h1>{escape(title)}</h1>\n" + page.paragraph(about, "soft"),
        f"<pre>{escape(command)}</pre>",
        _warning(missing),
        page.paragraph(how_to_read(study)),
        _heat(study, summaries) if len(summaries) > 1 else "",
        *(_section(study, summary) for summary in summaries),
    )


def _warning(missing: Sequence[Missing]) -> str:
    if not missing:
        return ""
    items = "".join(f"<li>{escape(missing_text(row))}</li>" for row in missing)
    return f'<div class="warn"><p>Missing in the tables:</p><ul>{items}</ul></div>'


def missing_text(row: Missing) -> str:
    """E.g. "full: fedavg, seed 3: exit status 1: ..."."""
    return f"{row.condition}: {row.run}, seed {row.seed}: {row.reason}"


def _section(study: Study, summary: ConditionSummary) -> str:
    name = summary.condition.name
    if not summary.methods:
        return page.section(name, page.paragraph("No run of this condition is finished."))
    others = [m for m in summary.methods if m.name != study.reference]
    plots = (
        (
            "mean over the training sites",
            dot_plot({m.name: m.difference for m in others}, study.metric),
        ),
        ("worst site", dot_plot({m.name: m.worst_difference for m in others}, study.metric)),
    )
    points = f" in{found}" if (found := gain_unit(study.metric)) else ""
    figures = [
        page.figure(
            svg,
            f"Difference of test {metric_name(study.metric)} to {study.reference}{points}, {words}:"
            " paired by seed, with the 95 % interval. Coloured where the interval leaves out 0.",
        )
        for words, svg in plots
        if svg
    ]
    tables = method_table(study, summary), site_table(study, summary)
    return page.section(name, html_table(tables[0]), *figures, html_table(tables[1]))


def html_table(table: TextTable) -> str:
    """A table for the page."""
    return page.table(table.header, table.rows, table.caption)


def _heat(study: Study, summaries: Sequence[ConditionSummary]) -> str:
    """The differences in all conditions, the cells shaded by size and sign."""
    table = difference_table(study, summaries)
    found: Mapping[str, Sequence[float]] = differences(study, summaries)
    largest = max((abs(v) for row in found.values() for v in row if math.isfinite(v)), default=0.0)
    body = []
    for name, row in found.items():
        cells = "".join(_heat_cell(value, largest, study.metric) for value in row)
        body.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    return page.section(
        f"Differences to {study.reference}",
        f'<div class="scroll"><table>\n<caption>{escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{''.join(body)}</tbody></table></div>",
    )


def _heat_cell(value: float, largest: float, metric: str) -> str:
    if not math.isfinite(value):
        return f"<td>{MISSING}</td>"
    colour = BETTER if (value > 0) != (metric in LOWER_IS_BETTER) else WORSE
    alpha = round(0.6 * abs(value) / largest * 255) if largest else 0
    return f'<td style="background:{colour}{alpha:02x}">{gain_text(value, metric)}</td>'
