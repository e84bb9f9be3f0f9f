"""report.html: a run as one page that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fl.files import write_text
from lightning_fl.results.formats import score_text
from lightning_fl.results.report.audit_section import audit_values
from lightning_fl.results.report.case_section import case_values
from lightning_fl.results.report.cost_section import cost_frame, operation_costs, ring_values
from lightning_fl.results.report.plots import bars_svg, curves_svg, patients_svg, training_svg
from lightning_fl.results.report.rendering import render
from lightning_fl.results.report.slice_pictures import gallery
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import MODELS, metrics_of, number, score_table
from lightning_fl.results.summary import Curves
from lightning_fl.results.tables import read_costs, read_transcript
from lightning_fl.results.volume_tables import final_direction
from lightning_fl.run_files import GALLERY, MASKS, PICTURE, REPORT, SITES


def write_report(run: Path) -> Path:
    """Write report.html into a run's folder, from the files of that folder alone.

    Args:
        run: folder of a federation, or of several directions with a folder for each.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: the run has not finished a round, or the folder is not one of a run.
    """
    folder = RunFolder(run)
    values = {"run": folder, "scans": scan_values(folder)}
    if "directions" in folder.results:
        html = render("directions.html", **values)
    else:
        html = render("run.html", **values, **federation_values(folder))
    path = run / REPORT
    write_text(path, html)
    return path


def federation_values(run: RunFolder) -> dict[str, Any]:
    """Return what the report of one federation shows."""
    results = run.results
    costs = cost_frame(read_costs(run.path / "costs.csv"))
    return {
        "latest": score_table(results, run.metric, "test" if run.finished else "val"),
        **score_values(run),
        # Hospitals keep their pictures. Those of engines with one owner are in the run's folder.
        "cases": case_values(results, run.metric),
        "slices": gallery(run.path / SITES, results["sites"], GALLERY, 4),
        **choice_values(results["personalisation"]),
        "new_hospital": new_hospital_values(results["new_hospital"], run.metric),
        "costs": operation_costs(costs),
        "ring": ring_values(costs, read_transcript(run.path / "transcript.csv")),
        "audit": audit_values(run.path),
        "privacy": results.get("privacy"),
    }


def score_values(run: RunFolder) -> dict[str, Any]:
    """Return what the sections on test scores and on training show."""
    results, curves, best_round = run.results, run.validation(), run.results["best_round"]
    training = run.training()
    scores = score_table(results, run.metric)
    return {
        "scores": scores,
        "bars": bars_svg(scores) if scores.models else "",
        "other_scores": [score_table(results, metric) for metric in metrics_of(results)[1:]],
        "training": training and training_svg(training),
        "curves": curves and curves_svg(curves, metric=run.deciding_metric, best_round=best_round),
    }


def scan_values(run: RunFolder) -> dict[str, Any]:
    """Return what the section on whole test scans shows; {} where the run has segmented none."""
    volumes = run.results.get("volumes")
    if not volumes:
        return {}
    mean = {model: volumes["mean"][model] for model in MODELS if model in volumes["mean"]}
    return {
        "sites": volumes["sites"],
        "mean": mean,
        "direction": final_direction(next(iter(mean.values()))),
        "several": any(len(directions) > 1 for directions in mean.values()),
        "slices": gallery(run.path / MASKS, volumes["sites"], f"*{PICTURE}", 1),
    }


def choice_values(choices: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the section on the sites' choices shows.

    Args:
        choices: what each site chose, as in results.json.
    """
    names = dict.fromkeys(name for choice in choices.values() for name in choice["candidates"])
    members = {site: choice.get("members", ()) for site, choice in choices.items()}
    return {
        "choices": choices,
        "candidates": list(names),
        # A mirrored model has one member.
        "ensembles": {site: names for site, names in members.items() if len(names) > 1},
    }


def new_hospital_values(curves: Curves, metric: str) -> dict[str, Any]:
    """Return what the section on hospitals that never trained shows; {} without such a hospital.

    Args:
        curves: metrics of each hospital by the number of its patients, as in results.json.
        metric: the one to show.
    """
    if not curves:
        return {}
    lines = {
        site: {int(count): number(metrics.get(metric)) for count, metrics in curve.items()}
        for site, curve in curves.items()
    }
    counts = sorted({count for line in lines.values() for count in line})
    return {
        "plot": patients_svg(lines, metric=metric),
        "header": ["site", *map(_patients, counts)],
        "rows": {
            site: [score_text(line.get(count), metric) for count in counts]
            for site, line in lines.items()
        },
    }


def _patients(count: int) -> str:
    return {0: "as it came", 1: "1 patient"}.get(count, f"{count} patients")
