"""The report's section on membership inference: do models tell whom they were trained on?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_fl.results.formats import MISSING
from lightning_fl.results.report import page
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.run_files import AUDIT_JSON

ABOUT = (
    "Encryption hides updates, but the finished models are given out. An attacker who has one asks"
    " of a patient: was this model trained on them? It looks at the model's loss, which is lower"
    " where images were learnt by heart. With shadow models, trained on half of the patients each,"
    " it allows for some patients being easier than others."
)
FEW = 20
"""Below so many patients of a kind the table has a warning."""
ENOUGH = 100
"""Test patients from which one per cent of them is a patient."""


def membership(run: RunFolder) -> str:
    """A table of attacks on models, and what they mean; "" where there were none."""
    file = run.path / AUDIT_JSON
    if not file.is_file():
        return ""
    found: Sequence[Mapping[str, Any]] = json.loads(file.read_text("utf-8")).get("membership", ())
    if not found:
        return ""
    return page.section(
        "Membership inference",
        page.paragraph(headline(found)),
        page.paragraph(ABOUT, "soft"),
        membership_table(found),
        page.paragraph(small_numbers(found), "soft") if small_numbers(found) else "",
    )


def headline(found: Sequence[Mapping[str, Any]]) -> str:
    """Say which models give their training patients away."""
    loud = list(dict.fromkeys(model_name(one) for one in found if one["detected"]))
    models = len({model_name(one) for one in found})
    if not loud:
        return (
            f"Of {models} models none was seen to give away whom it was trained on. That these"
            " attacks fail does not show that none can succeed."
        )
    return (
        f"{len(loud)} of {models} models give away whom they were trained on: {', '.join(loud)}. "
        "Training for fewer steps, more patients or differential privacy (`privacy`) make it less."
    )


def membership_table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row for each model and attack."""
    enough = any(one["non_members"] >= ENOUGH for one in found)
    rows = [
        [
            model_name(one),
            one["attack"],
            f"{one['members']} and {one['non_members']}",
            _with_interval(one, "auc"),
            "{:.2f} to {:.2f}".format(*one["coin"]),
            _with_interval(one, "tpr@0.1"),
            *([_at_one_per_cent(one)] if enough else ()),
            one["words"],
        ]
        for one in found
    ]
    header = ["model", "attack", "patients in and out", "AUC", "AUC of a coin", "found at 10 %"]
    caption = (
        "Patients in are training patients, patients out test patients, each with the mean loss of"
        " its samples, by which the loss threshold ranks them inside each hospital. AUC is the"
        " chance that the attack ranks a training patient before a test patient; a coin has 0.5,"
        " and of coins with so many patients 95 % lie where the table says. Found at 10 %: the"
        " share of training patients that a threshold finds which takes one in ten test patients"
        " for a training patient; the same at 1 % is shown where there"
        f" are {ENOUGH} test patients. In brackets 95 % intervals by bootstrap over patients."
    )
    at_one = ["found at 1 %"] if enough else []
    return page.table([*header, *at_one, "verdict"], rows, caption)


def small_numbers(found: Sequence[Mapping[str, Any]]) -> str:
    """What few patients mean for the intervals; "" where there are enough."""
    least = min(min(one["members"], one["non_members"]) for one in found)
    if least >= FEW:
        return ""
    widest = max(one["coin"][1] for one in found)
    return (
        f"There are models with only {least} patients of one kind. Their AUC moves in large steps,"
        f" a coin reaches up to {widest:.2f}, and the bootstrap's interval is too narrow (where all"
        " patients agree it has no width at all). So a model counts as giving patients away only"
        " where its AUC is also above what a coin can reach; one that does not may still do so by"
        " less than could be seen here."
    )


def model_name(one: Mapping[str, Any]) -> str:
    """The global model, or whose personal one it is."""
    return f"personal model of {one['site']}" if one["site"] else "global model"


def _at_one_per_cent(one: Mapping[str, Any]) -> str:
    return _with_interval(one, "tpr@0.01") if one["non_members"] >= ENOUGH else MISSING


def _with_interval(one: Mapping[str, Any], name: str) -> str:
    low, high = one["intervals"][name]
    return f"{one[name]:.2f} ({low:.2f} to {high:.2f})"
