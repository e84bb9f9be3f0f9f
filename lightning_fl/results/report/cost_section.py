"""What the report shows of costs.csv and transcript.csv."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lightning_fl.wire.records import CostRow, TranscriptRow

PARTS = ("encode", "encrypt", "add", "decrypt")
"""The parts of a ring's operations that are shown one by one; the rest is "other"."""
OTHER = "other"
OUTSIDE_ROUNDS = ("describe", "personalise")
"""Operations before the first round and after the last."""


class OperationCosts(NamedTuple):
    """What an operation took at all sites and in all rounds.

    Attributes:
        operation: its name.
        turns: how many pairs of a round and a site it was done in.
        sent: bytes that sites sent.
        received: bytes that sites received.
        seconds: that sites were busy, those of the parts included.
        parts: seconds of each part.
    """

    operation: str
    turns: int
    sent: int
    received: int
    seconds: float
    parts: Mapping[str, float]


def cost_frame(rows: Sequence[CostRow]) -> pd.DataFrame:
    """Return costs.csv, where "ring_pass: encrypt" is the whole "ring_pass" and part "encrypt"."""
    columns = [*CostRow._fields, "whole", "colon", "part"]
    frame = pd.DataFrame([(*row, *row.operation.partition(": ")) for row in rows], columns=columns)
    return frame.assign(is_ring=frame["whole"].str.startswith("ring_"))


def operation_costs(costs: pd.DataFrame) -> list[OperationCosts]:
    """Add up the costs of each operation, in the order in which the operations were first done.

    An operation's own row holds what its parts leave, so sums over all rows are right.
    """
    return [
        OperationCosts(
            str(operation),
            turns=len(calls.groupby(["round", "site"])),
            sent=calls["bytes_up"].sum(),
            received=calls["bytes_down"].sum(),
            seconds=calls["seconds"].sum(),
            parts=calls[calls["part"] != ""].groupby("part", sort=False)["seconds"].sum().to_dict(),
        )
        for operation, calls in costs.groupby("whole", sort=False)
    ]


def ring_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return what the rings of one round cost each site.

    The costs are means over the rounds in which the site was in a ring. A ring that was dropped
    counts towards its round.

    Returns:
        A row for each site in alphabetical order, none without a ring. The columns are bytes_up,
        bytes_down and the seconds of `PARTS` and `OTHER`; NaN where the site never had a part.
    """
    rings = costs[costs["is_ring"]]
    part = rings["part"].where(rings["part"].isin(PARTS), OTHER)
    by_site = rings.groupby("site")
    seconds = rings.groupby(["site", part])["seconds"].sum().unstack()
    sums = by_site[["bytes_up", "bytes_down"]].sum().join(seconds.reindex(columns=[*PARTS, OTHER]))
    return sums.div(by_site["round"].nunique(), axis="index")


def ring_share(costs: pd.DataFrame) -> float:
    """Return the rings' share of the seconds that all sites spent on rounds.

    Rounds count from 1 on, and without the operations `OUTSIDE_ROUNDS`.
    """
    counted = costs[(costs["round"] >= 1) & ~costs["whole"].isin(OUTSIDE_ROUNDS)]
    return float(counted.loc[counted["is_ring"], "seconds"].sum() / counted["seconds"].sum())


def ring_values(costs: pd.DataFrame, transcript: Sequence[TranscriptRow]) -> dict[str, Any]:
    """Return what the section on secure aggregation shows; {} without a ring."""
    by_site = ring_costs(costs)
    if by_site.empty:
        return {}
    # A part that a site never had counts as 0 in the mean.
    mean = by_site.fillna(0).mean().where(by_site.notna().any())
    return {
        "sites": by_site.to_dict("index"),
        "mean": mean.to_dict(),
        "share": ring_share(costs),
        "messages": last_ring(transcript),
    }


def last_ring(transcript: Sequence[TranscriptRow]) -> list[TranscriptRow]:
    """Return the messages of the last ring, in the order in which they were written down."""
    ring = next((row.ring for row in reversed(transcript) if row.ring), None)
    return [row for row in transcript if row.ring == ring]
