"""The report's section on personalisation: what each site chose, from which candidates."""

from collections.abc import Mapping
from typing import Any

from lightning_fl.results.formats import MISSING, gain_text, in_unit, metric_name, score_text
from lightning_fl.results.report import page
from lightning_fl.results.report.page import Cell
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.results.scores import number

Choices = Mapping[str, Mapping[str, Any]]
HEADER = ("site", "choice", "steps", "validation gain", "gradients", "chosen by", "from round")


def choices(run: RunFolder) -> str:
    """What each site chose when it made its own model, and every candidate's score."""
    found: Choices = run.results["personalisation"]
    if not found:
        return ""
    caption = (
        "What each site's guard chose for its personal model: “none” means that the site keeps the"
        " model as it came; “averaged” is the same with the mean of the layers that have stayed at"
        " the sites, “own” a second model that the site has trained. Steps are those that led to"
        " the chosen model, gradients all forward-backward passes spent on personalising. The gain"
        " here is on the data that the choice was made on, so it flatters; the gain on test data is"
        " further up."
    )
    rows = [_chosen(site, choice, run.deciding_metric) for site, choice in found.items()]
    candidates = _candidates(found, run.deciding_metric)
    parts = [page.table(HEADER, rows, caption), candidates, _ensembles(found)]
    return page.section("Choices of each site", *(part for part in parts if part))


def _chosen(site: str, choice: Mapping[str, Any], metric: str) -> list[str]:
    gain = gain_text(number(choice["validation_gain"]), metric)
    counts = [str(choice[key]) for key in ("gradients", "by", "round")]
    return [site, choice["choice"], str(choice["steps"]), gain, *counts]


def _candidates(found: Choices, metric: str) -> str:
    """Every candidate's score at every site, the chosen one in bold."""
    names = list(dict.fromkeys(name for c in found.values() for name in c["candidates"]))
    if not names:
        return ""
    rows = [
        [Cell(name), *(_score(choice, name, metric) for choice in found.values())] for name in names
    ]
    caption = (
        f"Validation {metric_name(metric)}{in_unit(metric)} of every"
        " candidate at every site; what the site uses in bold. Chosen by cross-validation, it is"
        " the mean over folds of training patients and the validation patients, by patients."
    )
    return page.table(["candidate", *found], rows, caption)


def _score(choice: Mapping[str, Any], name: str, metric: str) -> Cell:
    if name not in choice["candidates"]:
        return Cell(MISSING)
    value = number(choice["candidates"][name])
    return Cell(score_text(value, metric), name == choice["choice"])


def _ensembles(found: Choices) -> str:
    """Which models an ensemble averages, where one was chosen."""
    words = [
        f"{site}: {' and '.join(choice['members'])}"
        for site, choice in found.items()
        if len(choice.get("members", ())) > 1  # a mirrored model has one
    ]
    if not words:
        return ""
    return page.paragraph(f"The chosen ensembles average the outputs of {'; '.join(words)}.")
