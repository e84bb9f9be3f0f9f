"""cases.csv: every score of every validation and test patient, and of their single images."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lightning_fl.results.tables import read_rows, write_rows
from lightning_fl.run_files import CASES, SITES
from lightning_fl.training.case_scores import CaseScores


class CaseRow(NamedTuple):
    """Hold one number about a patient, or about one of its images: the columns of cases.csv.

    Attributes:
        site: name of the hospital.
        case: the patient.
        image: number of the image among those of the patient, from 1; "" for the patient.
        label: number of the class; "" for the mean over the foreground classes.
        model: e.g. "global" or "personal".
        split: "val" or "test".
        metric: "dice", "iou", "precision", "recall", and the distances "hd95" and "assd" in mm or
            "hd95_px" and "assd_px" in pixels.
        value: the number; NaN where it is not defined.
    """

    site: str
    case: str
    image: str
    label: str
    model: str
    split: str
    metric: str
    value: float


write_cases, read_cases = partial(write_rows, CaseRow), partial(read_rows, CaseRow)


def case_rows(
    scores: CaseScores, names: Sequence[str], *, site: str, model: str, split: str
) -> Iterator[CaseRow]:
    """Yield the rows of a split, patient by patient; a patient's only image has none of its own.

    `names` are those of the patients, by number.
    """
    for place, number in enumerate(scores.numbers):
        images = (scores.places == place).nonzero().flatten().tolist()
        several = enumerate(images, start=1) if len(images) > 1 else ()
        shown = [("", scores.cases, place), *((str(n), scores.images, i) for n, i in several)]
        for image, values, index in shown:
            for (label, metric), column in values.items():
                value = float(column[index])
                yield CaseRow(site, names[number], image, label, model, split, metric, value)


def keep_cases(folder: Path, sites: Iterable[str]) -> None:
    """Write cases.csv into the folder of a run, from those of the sites whose folders are there."""
    files = [folder / SITES / site / CASES for site in sites]
    rows = [row for file in files if file.is_file() for row in read_cases(file)]
    if rows:
        write_cases(folder / CASES, rows)
