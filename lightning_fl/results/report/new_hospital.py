"""Hospitals that never trained: their test scores by the patients they had to personalise with."""

import math

from lightning_fl.results.formats import in_unit, metric_name, score_text
from lightning_fl.results.report import page
from lightning_fl.results.report.plots import patients_svg
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import number
from lightning_fl.results.summary import Curves


def new_hospital(run: RunFolder) -> str:
    """The section of the report; "" for a run without such hospitals."""
    curves: Curves = run.results["new_hospital"]
    if not curves:
        return ""
    metric = run.metric
    lines = {
        site: {int(count): number(metrics.get(metric)) for count, metrics in curve.items()}
        for site, curve in curves.items()
    }
    counts = sorted({count for line in lines.values() for count in line})
    rows = [
        [site, *(score_text(line.get(count, math.nan), metric) for count in counts)]
        for site, line in lines.items()
    ]
    caption = (
        f"Test {metric_name(metric)} at hospitals that did not train, by how many of their patients"
        " were used to personalise the shared model; 0 is the model as it came. With one patient"
        " BatchNorm is re-estimated and nothing is chosen; with more the guard chooses by"
        " cross-validation among these patients alone. One order of patients: other first patients"
        " would give other scores."
    )
    return page.section(
        "A new hospital",
        page.figure(patients_svg(lines, metric=metric), caption),
        page.table(["site", *map(_patients, counts)], rows, f"The same numbers{in_unit(metric)}."),
    )


def _patients(count: int) -> str:
    return {0: "as it came", 1: "1 patient"}.get(count, f"{count} patients")
