"""Whole scans in the report: scores by site and by direction, and slices of the first scans."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.files import write_text
from lightning_fl.results.formats import heading, score_text
from lightning_fl.results.report import page
from lightning_fl.results.report.gallery import read_slices
from lightning_fl.results.report.pictures import GALLERY_SITES, key, slice_html
from lightning_fl.results.scores import MODELS, number
from lightning_fl.results.summary import read_results
from lightning_fl.results.volume_tables import METRICS, final_direction
from lightning_fl.run_files import MASKS, PICTURE, VOLUMES

DEFINITION = (
    "Measured on each patient's whole scan, in its own space, and averaged over the site's test"
    " patients. Dice is twice the volume that prediction and truth share, divided by the sum of"
    " both; sensitivity is the share of the true lesion that is found; HD95 is the 95th percentile"
    " of the distances between the two surfaces; volume error is how far the predicted lesion"
    " volume is from the true one. A patient without lesion has no sensitivity, and HD95 needs both"
    " a true and a predicted lesion; such patients are left out of these two."
)
Means = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Model -> direction -> metric -> value, as in results.json."""


def volumes(run: Path) -> str:
    """The section on whole test scans; "" where the run has segmented none.

    Args:
        run: the run's folder.
    """
    found = read_results(run / "results.json").get("volumes")
    if not found or not (run / VOLUMES).is_file():
        return ""
    sites: Mapping[str, Means] = found["sites"]
    direction = final_direction(next(iter(found["mean"].values())))
    how = f"Here of the {direction} of all directions." if _several(found["mean"]) else ""
    parts = [
        page.paragraph(" ".join(filter(None, (DEFINITION, how)))),
        *(_by_site(model, direction, sites, found["mean"]) for model in _models(found["mean"])),
        _by_direction(found["mean"]) if _several(found["mean"]) else "",
        _slices(run, list(sites)),
    ]
    return page.section("Whole scans", *filter(None, parts))


def is_directions(run: Path) -> bool:
    """Whether a folder is that of several directions rather than of one federation."""
    results = run / "results.json"
    return results.is_file() and "directions" in read_results(results)


def write_volume_report(run: Path) -> Path:
    """Write report.html of a run with several directions.

    Args:
        run: folder with config.yaml, results.json, volumes.csv, masks/ and each direction's run.

    Returns:
        The path of the page.
    """
    results = read_results(run / "results.json")
    config = (run / "config.yaml").read_text(encoding="utf-8")
    html = page.page(
        run.resolve().name,
        f"<h1>{escape(_title(config))}</h1>",
        page.paragraph(
            f"{len(results['directions'])} directions, run {run.resolve().name}", "soft"
        ),
        volumes(run),
        page.section("The run of each direction", _links(results["directions"])),
        page.section("To run this again", page.folded("config.yaml", config)),
    )
    path = run / "report.html"
    write_text(path, html)
    return path


def _title(config: str) -> str:
    """Algorithm, network and aggregator of a config, e.g. "LateLocal · Unet · CyclicCKKS"."""
    values: dict[str, Any] = yaml.safe_load(config)
    paths = [str(values[key]["class_path"]) for key in ("algorithm", "net", "aggregator")]
    return " · ".join(path.rpartition(".")[2] for path in paths)


def _links(directions: Sequence[str]) -> str:
    items = (f'<li><a href="{escape(d)}/report.html">{escape(d)}</a></li>' for d in directions)
    return f"<ul>{''.join(items)}</ul>"


def _models(mean: Means) -> list[str]:
    return [model for model in MODELS if model in mean]


def _several(mean: Means) -> bool:
    return any(len(directions) > 1 for directions in mean.values())


def _by_site(model: str, direction: str, sites: Mapping[str, Means], mean: Means) -> str:
    """One model's scores at every site."""
    rows = [[site, *_cells(found.get(model, {}).get(direction))] for site, found in sites.items()]
    total = ["mean of training sites", *_cells(mean[model][direction])]
    caption = f"The {model} model on whole test scans, mean over each site's patients."
    return page.table(["site", *map(heading, METRICS)], rows, caption, [total])


def _by_direction(mean: Means) -> str:
    """Every model from every direction, mean over the training sites."""
    rows = [
        [f"{model}, {direction}", *_cells(metrics)]
        for model in _models(mean)
        for direction, metrics in mean[model].items()
    ]
    caption = (
        "Each direction alone and the ensemble, the mean of their probabilities; mean over the"
        " training sites."
    )
    return page.table(["model, direction", *map(heading, METRICS)], rows, caption)


def _cells(metrics: Mapping[str, float | None] | None) -> list[str]:
    return [score_text(number((metrics or {}).get(metric)), metric) for metric in METRICS]


def _slices(run: Path, sites: Sequence[str]) -> str:
    """The slices that evaluation has put beside the masks."""
    parts: list[str] = []
    models: set[str] = set()
    for site in sites[:GALLERY_SITES]:
        pictures: list[str] = []
        for file in sorted((run / MASKS / site).glob(f"*{PICTURE}")):
            [piece] = read_slices(file, 1)
            models |= set(piece.outlines)
            name = f"scan-{len(parts)}-{len(pictures)}"
            pictures.append(slice_html(piece, name))
        if pictures:
            parts.append(f'<h3>{escape(site)}</h3>\n<div class="slices">{"".join(pictures)}</div>')
    if not parts:
        return ""
    caption = (
        "The axial slice with the largest lesion of the first test patients: the truth in yellow,"
        " over it the model's outline, with its Dice on this slice alone."
    )
    shown = [model for model in MODELS if model in models]
    return "\n".join([key(shown), *parts, page.paragraph(caption, "soft below")])
