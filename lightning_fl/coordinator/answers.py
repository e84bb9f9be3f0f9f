"""Check the numbers in sites' answers before anything is worked out from them."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning_fl.errors import SiteError
from lightning_fl.wire.messages import Message


def checked(
    operation: str,
    answers: Mapping[str, Message | SiteError],
    check: Callable[[Mapping[str, Any]], None],
) -> dict[str, Message | SiteError]:
    """Return the answers, with an error in place of one whose numbers are none.

    Args:
        operation: that was asked for.
        answers: by site.
        check: looks at what an answer says, and raises a ValueError.
    """
    results: dict[str, Message | SiteError] = {}
    for site, answer in answers.items():
        results[site] = answer
        if isinstance(answer, Message):
            try:
                check(answer.info)
            except ValueError as error:
                results[site] = SiteError(site, operation, "garbled", str(error))
    return results


def check_description(info: Mapping[str, Any]) -> None:
    """Check the counts with which a site describes itself."""
    if "samples" in info:
        _numbers(info["samples"], 1, int)
        if "train" not in info["samples"]:
            raise ValueError("tells no number of training samples")


def check_training(info: Mapping[str, Any]) -> None:
    """Check the counts, the curves and the seconds of a round of training."""
    for name in ("samples", "gradients"):
        if name in info and (type(info[name]) is not int or info[name] < 0):
            raise ValueError(f"says {name} = {info[name]!r:.60}, which is no count")
    if "curves" in info:
        _numbers(info["curves"], 1)
        if info["curves"] and "samples" not in info["curves"]:
            raise ValueError("has curves without their number of samples")
        seconds = info.get("seconds")
        if not isinstance(seconds, dict) or not _is_decimal(seconds.get("fit")):
            raise ValueError(f"says seconds = {seconds!r:.60}")
    if "privacy" in info:
        _numbers(info["privacy"], 1)


def check_scores(info: Mapping[str, Any]) -> None:
    """Check the scores of an evaluation."""
    _numbers(info.get("val"), 1)


def check_final(info: Mapping[str, Any]) -> None:
    """Check what a site tells of its models at the end."""
    _numbers(info.get("scores"), 3)
    _numbers(info.get("new_hospital", {}), 2)
    if not all(count.isdecimal() for count in info.get("new_hospital", {})):
        raise ValueError("has curves over something else than a number of patients")
    choice = info.get("personalisation")
    if not isinstance(choice, dict) or type(choice.get("choice")) is not str:
        raise ValueError(f"says personalisation = {choice!r:.60}")
    for name in ("steps", "validation_gain"):
        if type(choice.get(name)) not in (int, float):
            raise ValueError(f"says {name} = {choice.get(name)!r:.60}, which is no number")
    if type(choice.get("gradients")) is not int or type(choice.get("by")) is not str:
        raise ValueError(f"says personalisation = {choice!r:.60}")
    _numbers(choice.get("candidates"), 1)


def _numbers(values: Any, depth: int, *kinds: type) -> None:
    """Check that a mapping, nested so deep, holds numbers alone."""
    if depth == 0:
        if type(values) not in (kinds or (int, float)):
            raise ValueError(f"has {values!r:.60} where a number was due")
        try:
            float(values)
        except OverflowError as error:
            raise ValueError("has a number that is too large") from error
        return
    if not isinstance(values, dict):
        raise ValueError(f"has {values!r:.60} where numbers were due")
    for value in values.values():
        _numbers(value, depth - 1, *kinds)


def _is_decimal(text: Any) -> bool:
    try:
        return isinstance(text, str) and 0 <= float(text) < float("inf")
    except ValueError:
        return False
