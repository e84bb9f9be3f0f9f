"""What audit.json says of the views and of the distinguishing test."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lightning_fl.audit.trials import TrialRow
from lightning_fl.audit.verdicts import Summary, summarise
from lightning_fl.audit.views.distinguish import OBSERVERS, Outcome
from lightning_fl.audit.views.guesses import VIEWS


def view_records(rows: Sequence[TrialRow], common_label: float) -> list[dict[str, Any]]:
    """Each view that has trials, summed up, in the order of the report.

    Args:
        rows: of all trials.
        common_label: share of the candidates that have the more common label.
    """
    by_view = {view: [row for row in rows if row.view == view] for view in VIEWS}
    floor = by_view["noise"]
    return [_view_record(summarise(of, floor, common_label)) for of in by_view.values() if of]


def outcome_records(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The outcomes of the distinguishing test, with their intervals and words."""
    return [
        {
            **outcome._asdict(),
            **OBSERVERS[outcome.view]._asdict(),
            "sees": outcome.sees,
            "accuracy": outcome.accuracy,
            "advantage": outcome.advantage,
            "interval": outcome.interval(),
            "words": _coin_words(outcome),
        }
        for outcome in outcomes
    ]


def _view_record(summary: Summary) -> dict[str, Any]:
    view = VIEWS[summary.view]
    return {
        "title": view.title,
        "sees": view.sees,
        "protected": view.protected,
        **asdict(summary),
        "words": summary.words,
    }


def _coin_words(outcome: Outcome) -> str:
    if outcome.sees:
        return "Tells them apart."
    if outcome.is_a_coin:
        return "A coin."
    return "Beside a coin by less than chance can do; run again with another seed."
