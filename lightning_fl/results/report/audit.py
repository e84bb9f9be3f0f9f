"""The report's section on the audit: who sees what, and what comes of an attack on it."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from safetensors.numpy import load_file

from lightning_fl.results.formats import MISSING
from lightning_fl.results.report import page
from lightning_fl.results.report.audit_words import ABOUT, COINS, OLDER, headline, views_caption
from lightning_fl.results.report.gallery import data_uri, png
from lightning_fl.results.run_folder import RunFolder
from lightning_fl.run_files import AUDIT_JSON, AUDIT_PICTURES

PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"


def audit(run: RunFolder) -> str:
    """Verdicts, pictures and the distinguishing test; "" where there was no audit."""
    file = run.path / AUDIT_JSON
    if not file.is_file():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    views, outcomes = found["views"], found["distinguishing"]
    if not views and not outcomes:
        return ""
    if "run" not in found:
        return page.section("Privacy audit", page.paragraph(OLDER))
    run_ = found["run"]
    opening = page.paragraph(headline(views, outcomes, run_))
    if not views:
        return page.section("Privacy audit", opening, coins_table(outcomes))
    return page.section(
        "Privacy audit",
        opening,
        page.paragraph(ABOUT, "soft"),
        views_table(views, found["settings"], run_["views"]),
        _pictures(run, views),
        coins_table(outcomes),
    )


def views_table(
    views: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], here: Sequence[str]
) -> str:
    """One row for each view.

    Args:
        views: of audit.json.
        settings: of the audit, with its facts.
        here: names of the views that somebody has in this run.
    """
    rows = [
        [
            _name(view),
            "yes" if view["view"] in here else MISSING,
            _spread_text(view, "psnr", 1),
            f"{view['guess_psnr']:.1f}",
            _spread_text(view, "ssim", 2),
            f"{100 * view['identified']:.0f} ({100 * view['luck']:.0f})",
            MISSING if view["label_right"] is None else f"{100 * view['label_right']:.0f}",
            f"{view['correlation']:.3f} ({view['chance']:.3f})",
            view["words"],
        ]
        for view in views
    ]
    scores = ["PSNR in dB", "of a guess", "SSIM", "identified in % (luck)", "label in %"]
    header = ["view", "in this run", *scores, "correlation (chance)", "verdict"]
    return page.table(header, rows, views_caption(views[0], settings))


def _spread_text(view: Mapping[str, Any], name: str, digits: int) -> str:
    """Mean and standard deviation; the mean alone of one trial."""
    mean, sd = round(view[name], digits) + 0.0, view[f"{name}_sd"]  # no "-0.0"
    return f"{mean:.{digits}f}" + ("" if sd is None else f"{PLUS_MINUS}{sd:.{digits}f}")


def coins_table(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """The distinguishing test."""
    if not outcomes:
        return ""
    rows = [
        [
            outcome["title"],
            str(outcome["trials"]),
            f"{100 * outcome['accuracy']:.1f}",
            "{:.1f} to {:.1f}".format(*(100 * end for end in outcome["interval"])),
            outcome["words"],
        ]
        for outcome in outcomes
    ]
    return "<h3>Which of two updates?</h3>\n" + page.table(
        ["view", "trials", "right in %", "interval", "verdict"], rows, COINS
    )


def _pictures(run: RunFolder, views: Sequence[Mapping[str, Any]]) -> str:
    file = run.path / AUDIT_PICTURES
    if not file.is_file():
        return ""
    tensors = load_file(file)
    parts = []
    for view in views:
        truths, found = (tensors[f"{view['view']}/{kind}"] for kind in ("truth", "found"))
        words = _of_several("true image", view), _of_several("reconstruction", view)
        pairs = "".join(
            f'<div class="slice">{_picture(png(truth, like=truth), words[0])}'
            f"{_picture(png(image, like=truth), words[1])}</div>"
            for truth, image in zip(truths, found, strict=True)
        )
        parts.append(f'<h3>{escape(_name(view))}</h3>\n<div class="slices">{pairs}</div>')
    caption = (
        "True training images, and beside each what the attack made of the view, both in the range"
        " of the true image's values: what lies beyond is black or white."
    )
    return "\n".join([*parts, page.paragraph(caption, "soft below")])


def _of_several(what: str, view: Mapping[str, Any]) -> str:
    """Says that it is the first, where several images were attacked together."""
    return what if view["images"] == 1 else f"{what}, first of {view['images']}"


def _name(view: Mapping[str, Any]) -> str:
    return f"{view['title']}: {view['sees']}"


def _picture(content: bytes, words: str) -> str:
    return (
        f'<div><svg viewBox="0 0 1 1" role="img" aria-label="{words}"><image width="1" height="1"'
        f' href="{data_uri(content)}" style="image-rendering: pixelated"/></svg>{words}</div>'
    )
