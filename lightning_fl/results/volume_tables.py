"""volumes.csv: every number about a whole test scan, and their means."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from lightning_fl.results.summary import combine_values, mean
from lightning_fl.results.tables import read_rows, write_rows

ENSEMBLE = "ensemble"
"""Name of the mean over all directions."""


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


write_volumes, read_volumes = partial(write_rows, VolumeRow), partial(read_rows, VolumeRow)


def summary(rows: Sequence[VolumeRow], sites: Collection[str]) -> dict[str, Any]:
    """Return what results.json says of whole scans: means by site, and their mean over `sites`."""
    names = dict.fromkeys(row.site for row in rows)
    by_site = {
        site: combine_values((row[2:] for row in rows if row.site == site), mean) for site in names
    }
    site_means = (
        (model, direction, metric, value)
        for site, models in by_site.items()
        if site in sites
        for model, directions in models.items()
        for direction, metrics in directions.items()
        for metric, value in metrics.items()
    )
    return {"sites": by_site, "mean": combine_values(site_means, mean)}


def final_direction(directions: Collection[str]) -> str:
    """Return the direction that a hospital uses: the ensemble where there is one."""
    return ENSEMBLE if ENSEMBLE in directions else next(iter(directions))
