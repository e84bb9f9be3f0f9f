"""The report's section on the audit: who sees what, and what comes of an attack on it."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from safetensors.numpy import load_file

from lightning_fl.privacy.prepared_audit import AUDIT_JSON, AUDIT_PICTURES
from lightning_fl.results import page
from lightning_fl.results.formats import MISSING
from lightning_fl.results.gallery import data_uri, png
from lightning_fl.results.run_folder import RunFolder

PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
ABOUT = (
    "In each trial sites with one image each made a round of training from first weights, the run's"
    " own or others of the same settings, and what was said was recorded. From every party's view"
    " the attacker worked out its best guess of a site's update and looked for the image that gives"
    " such an update (iDLG). One image and one step is the worst case for a hospital: updates of"
    " many steps and images give less away."
)


def audit(run: RunFolder) -> str:
    """Verdicts, pictures and the distinguishing test; "" where there was no audit."""
    file = run.path / AUDIT_JSON
    if not file.is_file():
        return ""
    found = json.loads(file.read_text(encoding="utf-8"))
    if not found["views"]:
        coins = coins_table(found["distinguishing"])
        return page.section("Privacy audit", coins) if coins else ""
    return page.section(
        "Privacy audit",
        page.paragraph(headline(found["views"])),
        page.paragraph(ABOUT, "soft"),
        views_table(found["views"], found["settings"]),
        _pictures(run, found["views"]),
        coins_table(found["distinguishing"]),
    )


def headline(views: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the attack works at all, and whether a protected view gave anything away."""
    control = next(view for view in views if view["view"] == "plain")
    protected = [view for view in views if view["protected"] and view["view"] != "noise"]
    leaks = [view["title"] for view in protected if view["verdict"] != "no better than guessing"]
    works = control["verdict"] == "comes back"
    first = (
        f"From an update in the clear the image comes back ({control['psnr']:.1f} dB)."
        if works
        else "From an update in the clear the image does not come back, so the attack is too weak"
        f" for this task ({control['psnr']:.1f} dB) and the rest of this table proves nothing."
    )
    if leaks:
        return f"{first} Views that should be protected show something: {'; '.join(leaks)}."
    return f"{first} Of {len(protected)} protected views none is better than guessing."


def views_table(views: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """One row for each view."""
    rows = [
        [
            _name(view),
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
    common = f"{100 * settings['common_label']:.0f} %"
    caption = (
        f"{spread(views[0])} A guess is flat grey or random pixels, whichever is nearer. An image"
        f" is identified if of {settings['candidates']} training images it is the nearest to its"
        f" reconstruction; of these {common} have the more common label, which guessing gets"
        " right. Where several images are attacked together the attacker was told their labels,"
        " and scores are means."
    )
    scores = ["PSNR in dB", "of a guess", "SSIM", "identified in % (luck)", "label in %"]
    return page.table(["view", *scores, "correlation (chance)", "verdict"], rows, caption)


def _spread_text(view: Mapping[str, Any], name: str, digits: int) -> str:
    """Mean and standard deviation; the mean alone of one trial."""
    mean, sd = view[name], view[f"{name}_sd"]
    return f"{mean:.{digits}f}" + ("" if sd is None else f"{PLUS_MINUS}{sd:.{digits}f}")


def spread(view: Mapping[str, Any]) -> str:
    """Over what means and standard deviations are."""
    trials, seeds = view["trials"], view["seeds"]
    if seeds == 1:
        return (
            f"Mean and standard deviation over {trials} trial{'s' * (trials != 1)} with other"
            " images."
        )
    return (
        f"Mean over {trials} trials with other images, {trials // seeds} for each of {seeds} first"
        " weights, and standard deviation of the weights' means."
    )


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
    caption = (
        "The attacker chooses two updates, learns from examples, and is to tell which of the two"
        " is behind the bytes of a view. A coin is right in 50 %. Intervals are Wilson's of 95 %,"
        " so one in twenty misses 50 % by chance."
    )
    return "<h3>Which of two updates?</h3>\n" + page.table(
        ["view", "trials", "right in %", "interval", "verdict"], rows, caption
    )


def _pictures(run: RunFolder, views: Sequence[Mapping[str, Any]]) -> str:
    file = run.path / AUDIT_PICTURES
    if not file.is_file():
        return ""
    tensors = load_file(file)
    parts = []
    for view in views:
        truths, found = (tensors[f"{view['view']}/{kind}"] for kind in ("truth", "found"))
        pairs = "".join(
            f'<div class="slice">{_picture(png(truth), "true image")}'
            f"{_picture(png(image), 'reconstruction')}</div>"
            for truth, image in zip(truths, found, strict=True)
        )
        parts.append(f'<h3>{escape(_name(view))}</h3>\n<div class="slices">{pairs}</div>')
    caption = "True training images, and beside each what the attack made of the view."
    return "\n".join([*parts, page.paragraph(caption, "soft below")])


def _name(view: Mapping[str, Any]) -> str:
    return f"{view['title']}: {view['sees']}"


def _picture(content: bytes, words: str) -> str:
    return (
        f'<div><svg viewBox="0 0 1 1" role="img" aria-label="{words}"><image width="1" height="1"'
        f' href="{data_uri(content)}" style="image-rendering: pixelated"/></svg>{words}</div>'
    )
