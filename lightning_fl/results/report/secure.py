"""The report's section on secure aggregation: its settings, its costs and its messages."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lightning_fl.results.formats import MISSING, bytes_text, seconds_text
from lightning_fl.results.report import page
from lightning_fl.results.report.ring_costs import (
    OTHER,
    PARTS,
    RingCosts,
    mean_costs,
    ring_costs,
    ring_share,
)
from lightning_fl.results.report.ring_messages import last_ring, message_lines
from lightning_fl.results.report.ring_words import (
    PROTOCOL,
    Facts,
    clipped_lines,
    clipped_words,
    restart_words,
    settings_words,
    two_site_words,
)
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.wire.records import CostRow, TranscriptRow

FLOAT_BYTES = 4


def secure_aggregation(run: RunFolder) -> str:
    """What the rings were set to, what they cost, and who sent what to whom in the last one."""
    costs = ring_costs(run.costs)
    if not costs:
        return ""
    aggregator: Mapping[str, Any] = run.results["aggregator"]
    rounds: Sequence[Facts] = aggregator.get("rounds") or []
    values = values_of(aggregator)
    settings = "".join(f"<li>{escape(words)}</li>" for words in settings_words(aggregator, rounds))
    events = [restart_words(rounds), two_site_words(rounds), clipped_words(rounds, values)]
    happened = " ".join(words for words in events if words)
    clipped = clipped_lines(rounds, values)
    parts = [
        page.paragraph(PROTOCOL),
        f"<ul>{settings}</ul>",
        page.paragraph(happened) if happened else "",
        _table(costs, values),
        _share_of_time(run.costs),
        page.folded("Clipped values, round by round", clipped) if clipped else "",
        _messages(run.transcript),
    ]
    return page.section("Secure aggregation", *(part for part in parts if part))


def values_of(aggregator: Mapping[str, Any]) -> int:
    """How many values an update has; 0 where results.json does not say."""
    values = aggregator.get("values")
    return values if isinstance(values, int) and values > 0 else 0


def _table(costs: Sequence[RingCosts], values: int) -> str:
    """A row for each site, then their mean."""
    relative = ["times update"] if values else []
    header = ["site", "sent", *relative, "received", *relative, *PARTS, OTHER]
    caption = (
        "What a round's rings cost each site, mean over the rounds in which it was in one; a ring"
        " that was dropped counts too. Only a round's initiator decrypts, and the mean is over a"
        " site's other rounds too. “Other” is the rest of the time from asking a site to hearing"
        " from it: keys, checks and the way of the messages."
    )
    if values:
        size = bytes_text(FLOAT_BYTES * values)
        caption += (
            f" “Times update” compares with the {values:,} values of an update as float32, {size}."
        )
    rows = [_cells(site, values) for site in costs]
    return page.table(header, rows, caption, [_cells(mean_costs(costs), values)])


def _cells(costs: RingCosts, values: int) -> list[str]:
    """One row; a dash for what the site never did."""
    cells = [costs.site]
    for count in (costs.bytes_up, costs.bytes_down):
        cells.append(bytes_text(count))
        cells += [f"{count / (FLOAT_BYTES * values):.2f}"] if values else []
    parts = (costs.seconds.get(part) for part in (*PARTS, OTHER))
    return cells + [MISSING if seconds is None else seconds_text(seconds) for seconds in parts]


def _share_of_time(rows: Sequence[CostRow]) -> str:
    """How much of the sites' time the rings took, with the sentence that defines it."""
    share = ring_share(rows)
    if math.isnan(share):
        return ""
    return page.paragraph(
        f"The rings took {100 * share:.1f} % of the sites' time: the seconds of the ring's"
        " operations at all sites, divided by those of all operations at all sites from round 1"
        " on, without “describe” and “personalise”."
    )


def _messages(transcript: Sequence[TranscriptRow]) -> str:
    """The messages of the last ring, folded."""
    rows = last_ring(transcript)
    if not rows:
        return ""
    note = (
        "“In” and “out” are seen from the site in the first column. What one site sends another\n"
        "is there twice, out of the one and into the other. All digits are in transcript.csv.\n\n"
    )
    title = f"Messages of the last ring, in round {rows[0].round}"
    return page.folded(title, note + message_lines(rows))
