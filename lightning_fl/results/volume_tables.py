"""volumes.csv: every number about a whole test scan, and their means."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_fl.files import read_csv, write_csv

METRICS = ("dice", "sensitivity", "hd95", "volume_error")
"""Scores of a whole scan, in the order of tables."""
ENSEMBLE = "ensemble"
"""Name of the mean over all directions."""
Means = dict[str, dict[str, dict[str, float]]]
"""Model -> direction -> metric -> mean over patients."""


class VolumeRow(NamedTuple):
    """One number about one patient: the columns of volumes.csv.

    Attributes:
        site: name of the hospital.
        patient: the scan's name.
        model: "global" or "personal".
        direction: in which the scan was cut, or "ensemble" for the mean of all.
        metric: see `volume_scores`.
        value: the number; NaN where it is not defined.
    """

    site: str
    patient: str
    model: str
    direction: str
    metric: str
    value: float


def write_volumes(path: Path, rows: Iterable[VolumeRow]) -> None:
    """Write volumes.csv in one step; values keep all their digits."""
    values = ((*row[:-1], repr(float(row.value))) for row in rows)
    write_csv(path, VolumeRow._fields, values)


def read_volumes(path: Path) -> list[VolumeRow]:
    """Read what `write_volumes` wrote.

    Raises:
        ValueError: the columns are others.
    """
    return [
        VolumeRow(site, patient, model, direction, metric, float(value))
        for site, patient, model, direction, metric, value in read_csv(path, VolumeRow._fields)
    ]


def means_by_site(rows: Sequence[VolumeRow]) -> dict[str, Means]:
    """Mean over the patients of each site, sites in the order of the rows."""
    sites = dict.fromkeys(row.site for row in rows)
    return {site: means([row for row in rows if row.site == site]) for site in sites}


def summary(rows: Sequence[VolumeRow], sites: Collection[str]) -> dict[str, Any]:
    """What results.json says of whole scans: means by site, and their mean over some sites."""
    by_site = means_by_site(rows)
    return {"sites": by_site, "mean": mean_over_sites(by_site, sites)}


def mean_over_sites(by_site: Mapping[str, Means], sites: Collection[str]) -> Means:
    """Mean of the sites' means, of those in `sites` only."""
    return means(
        [
            VolumeRow(site, "", model, direction, metric, value)
            for site, models in by_site.items()
            if site in sites
            for model, directions in models.items()
            for direction, metrics in directions.items()
            for metric, value in metrics.items()
        ]
    )


def means(rows: Sequence[VolumeRow]) -> Means:
    """Mean over patients of each model, direction and metric.

    Values that are not defined (NaN) are left out; where none is, the mean is NaN.
    """
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row.model, row.direction, row.metric].append(row.value)
    found: Means = {}
    for (model, direction, metric), each in values.items():
        defined = [value for value in each if not math.isnan(value)]
        mean = math.fsum(defined) / len(defined) if defined else math.nan
        found.setdefault(model, {}).setdefault(direction, {})[metric] = mean
    return found


def final_direction(directions: Iterable[str]) -> str:
    """The one that a hospital uses: the ensemble where there is one."""
    found = list(directions)
    return ENSEMBLE if ENSEMBLE in found else found[0]
