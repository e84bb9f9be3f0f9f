"""The report's section on costs: bytes and seconds of each operation and of its parts."""

import math
from collections.abc import Iterable

from lightning_fl.results.formats import bytes_text, seconds_text
from lightning_fl.results.report import page
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.wire.records import CostRow

INDENT = "\u2003"
"""An em space, which HTML does not swallow."""


def costs(run: RunFolder) -> str:
    """Bytes and seconds of each operation, in all and for one site in one round."""
    if not run.costs:
        return page.section("Costs", _seconds_alone(run))
    rows: list[list[str]] = []
    for operation, calls in by_operation(run.costs).items():
        turns = len({(row.round, row.site) for row in calls})
        rows.append([operation, *_spent(calls), *_spent(calls, turns)])
        parts = dict.fromkeys(part for row in calls if (part := split_operation(row.operation)[1]))
        for part in parts:
            seconds = _seconds(row for row in calls if split_operation(row.operation)[1] == part)
            shown = [seconds_text(seconds), "", "", seconds_text(seconds / turns)]
            rows.append([f"{INDENT}of which {part}", "", "", *shown])
    caption = (
        "Bytes that a site sent and received, and seconds that sites were busy, added up over all"
        " sites; sites that work at the same time finish sooner than the sum says. What sites send"
        " each other is counted at both. “Of which” names a part of the operation above, which is"
        " counted there already. “Per turn” is the mean for one site in one round."
    )
    columns = ["sent", "received", "seconds"]
    header = ["operation", *columns, *(f"{column} per turn" for column in columns)]
    totals = [["all", *_spent(run.costs), "", "", ""]]
    return page.section("Costs", page.table(header, rows, caption, totals))


def by_operation(rows: Iterable[CostRow]) -> dict[str, list[CostRow]]:
    """The rows of each operation with those of its parts, in the order in which they were done."""
    found: dict[str, list[CostRow]] = {}
    for row in rows:
        found.setdefault(split_operation(row.operation)[0], []).append(row)
    return found


def split_operation(operation: str) -> tuple[str, str]:
    """E.g. ("ring_pass", "encrypt") for "ring_pass: encrypt", and ("train", "") for "train"."""
    whole, _, part = operation.partition(": ")
    return whole, part


def _spent(rows: Iterable[CostRow], turns: int = 1) -> list[str]:
    """Bytes sent, bytes received and seconds as text, divided by the number of turns."""
    rows = list(rows)
    sent, received = (
        sum(getattr(row, name) for row in rows) for name in ("bytes_up", "bytes_down")
    )
    return [
        bytes_text(sent / turns),
        bytes_text(received / turns),
        seconds_text(_seconds(rows) / turns),
    ]


def _seconds(rows: Iterable[CostRow]) -> float:
    """The seconds of some rows together."""
    return math.fsum(row.seconds for row in rows)


def _seconds_alone(run: RunFolder) -> str:
    """The seconds in results.json, for a folder whose costs.csv has other columns."""
    total = run.results["costs"]
    rows = [[operation, seconds_text(seconds)] for operation, seconds in total["seconds"].items()]
    caption = (
        "Seconds that sites were busy, added up over all sites. The costs.csv of this run does not"
        f" tell sent from received; {bytes_text(total['bytes'])} crossed the sites' boundaries."
    )
    totals = [["all", seconds_text(math.fsum(total["seconds"].values()))]]
    return page.table(["operation", "seconds"], rows, caption, totals)
