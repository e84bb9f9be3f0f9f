"""The report's diagrams as SVG that takes its ink from the page, light or dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_fl.results.formats import heading, scale, score_text, unit
from lightning_fl.results.report.colours import MODEL_COLOURS, SITE_COLOURS
from lightning_fl.results.report.hover import (
    DPI,
    HoverArea,
    bar_areas,
    hover_svg,
    point_areas,
)
from lightning_fl.results.scores import ScoreTable

_INK = "#010203"  # stands for the page's text colour until `_svg` replaces it
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_PAGE_WIDTH = 11.5  # inches of 72 points; the page shows them a third larger
_MOST_HOVER_AREAS = 3000  # a page should stay small; of more points only the mean's tell theirs
_VALUES_ABOVE_BARS = 24  # more numbers than this would run into each other


def curves_svg(
    curves: Mapping[str, Mapping[int, float]], *, metric: str, best_round: int | None
) -> Markup:
    """Draw the validation scores over the rounds: a line for each site and their mean in bold.

    Args:
        curves: for each site its score after each round; NaN leaves a gap.
        metric: name of the score, for the axis.
        best_round: the round to mark, None for none.

    Returns:
        An `<svg>` element.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(height=3.8)
        mean = mean_curve(curves)
        many = len(curves) > len(SITE_COLOURS)
        # matplotlib leaves out of the legend what begins with "_".
        unnamed = ["_"] * (len(curves) - 1)
        labels = [f"each of {len(curves)} sites", *unnamed] if many else curves
        for number, (label, curve) in enumerate(zip(labels, curves.values(), strict=True)):
            _draw_line(
                axes,
                curve,
                metric,
                label=label,
                color=SITE_COLOURS[0 if many else number],
                linewidth=0.8 if many else 1.4,
                alpha=0.45 if many else 0.9,
            )
        _draw_line(axes, mean, metric, label="mean", color=_INK, linewidth=3)
        if best_round is not None:
            axes.axvline(best_round, color=_INK, lw=1, ls=(0, (4, 3)), label="best round")
        _label_axes(axes, "round", f"validation {heading(metric)}", metric)
        named = {**curves, "mean": mean}
        if sum(map(len, named.values())) > _MOST_HOVER_AREAS:
            named = {"mean": mean}
        return _svg(figure, "curves", _line_areas(named, metric, "{}, round {}"))


def mean_curve(curves: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Average the sites that have a score in a round."""
    scores = pd.DataFrame(curves).sort_index()
    mean: dict[int, float] = (
        scores.where(np.isfinite(scores)).mean(axis="columns").dropna().to_dict()
    )
    return mean


def bars_svg(table: ScoreTable, colours: Mapping[str, str] = MODEL_COLOURS) -> Markup:
    """Draw a group of bars for each site and for their mean, one bar for each model."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(height=3.6)
        rows, areas = [*table.sites, table.summary[0]], []
        width = 0.8 / len(table.models)
        for number, model in enumerate(table.models):
            left = (number - (len(table.models) - 1) / 2) * width
            values = [row.values[model] for row in rows]
            bars = axes.bar(
                [place + left for place in range(len(rows))],
                [scale(table.metric) * value for value in values],
                width=0.92 * width,
                color=colours[model],
                label=_plain(model),
            )
            labels = [score_text(value, table.metric) for value in values]
            names = [f"{row.name}, {model}" for row in rows]
            areas += bar_areas(bars, map(_value_text, names, values, [table.metric] * len(rows)))
            if len(rows) * len(table.models) <= _VALUES_ABOVE_BARS:
                axes.bar_label(bars, labels=labels, padding=2, fontsize=9)
        _from_zero(axes, table.metric)
        _label_groups(axes, [row.name for row in rows])
        axes.set_ylabel(f"test {heading(table.metric)}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=min(len(table.models), 6))
        return _svg(figure, "bars", areas)


def patients_svg(curves: Mapping[str, Mapping[int, float]], *, metric: str) -> Markup:
    """Draw test scores by the number of patients that a new hospital personalised with.

    Args:
        curves: for each hospital its score by number of patients; 0 is the model as it came.
        metric: name of the score, for the axis.

    Returns:
        An `<svg>` element.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(height=3.2)
        for number, (site, curve) in enumerate(curves.items()):
            colour = SITE_COLOURS[number % len(SITE_COLOURS)]
            _draw_line(axes, curve, metric, label=site, color=colour, marker="o")
        words = "patients of the hospital used to personalise"
        _label_axes(axes, words, f"test {heading(metric)}", metric)
        return _svg(figure, "patients", _line_areas(curves, metric, "{}, patients used: {}"))


TRAINING_PANELS = {
    "loss": "training loss",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "samples_per_second": "samples per second",
}
"""What `training_svg` shows, and the name of each axis."""


def training_svg(curves: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Markup:
    """Draw how the sites trained, with a line for each site in each panel.

    Args:
        curves: for each name of `TRAINING_PANELS`, each site's value in each round.

    Returns:
        An `<svg>` element.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_PAGE_WIDTH, 5.2), dpi=DPI, layout="constrained")
        panels = figure.subplots(2, 2, sharex=True)
        sites = list(dict.fromkeys(site for lines in curves.values() for site in lines))
        areas = []
        for axes, (name, words) in zip(panels.flat, TRAINING_PANELS.items(), strict=True):
            lines = curves.get(name, {})
            for site, curve in lines.items():
                colour = SITE_COLOURS[sites.index(site) % len(SITE_COLOURS)]
                axes.plot(list(curve), list(curve.values()), label=_plain(site), color=colour, lw=1)
            areas.append(_training_areas(lines, words))
            axes.set_ylabel(words)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[-1]:
            axes.set_xlabel("round")
        if len(sites) <= len(SITE_COLOURS):
            figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside right center")
        return _svg(figure, "training", *areas)


def _training_areas(lines: Mapping[str, Mapping[int, float]], words: str) -> list[HoverArea]:
    if sum(map(len, lines.values())) > _MOST_HOVER_AREAS:
        return []
    return point_areas(
        (x, y, f"{site}, round {x}, {words}: {y:.4g}")
        for site, line in lines.items()
        for x, y in line.items()
        if math.isfinite(y)
    )


def _draw_line(
    axes: Axes, curve: Mapping[int, float], metric: str, *, label: str, **style: Any
) -> None:
    values = [scale(metric) * value for value in curve.values()]
    axes.plot(list(curve), values, label=_plain(label), **style)


def _line_areas(
    curves: Mapping[str, Mapping[int, float]], metric: str, words: str
) -> list[HoverArea]:
    """Return an area for each point of each line; `words` has places for the name and x."""
    return point_areas(
        (x, scale(metric) * y, _value_text(words.format(name, x), y, metric))
        for name, curve in curves.items()
        for x, y in curve.items()
        if math.isfinite(y)
    )


def _value_text(name: str, value: float, metric: str) -> str:
    return f"{name}: {score_text(value, metric)}{unit(metric)}"


def _plain(name: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return name.replace("$", r"\$")


def _label_axes(axes: Axes, x: str, y: str, metric: str) -> None:
    """Name the axes of a line plot, which has whole numbers on x and its legend beside it."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    _from_zero(axes, metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def _from_zero(axes: Axes, metric: str) -> None:
    """Let all but losses begin at 0, also where all of them are 0."""
    if metric != "loss":
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1))


def _label_groups(axes: Axes, names: Sequence[str]) -> None:
    """Write the names under the groups, upright where there is no room to lie."""
    upright = sum(map(len, names)) > 80
    labels = [_plain(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90 if upright else 0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", length=0)


def _canvas(height: float) -> tuple[Figure, Axes]:
    """Make a figure of the page's width without pyplot, which keeps every figure alive."""
    figure = Figure(figsize=(_PAGE_WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, name: str, *areas: Sequence[HoverArea]) -> Markup:
    """Render to an element that can stand inside a page beside others.

    matplotlib's ids are made unique by a prefix, its ink becomes `currentColor`, and everything
    that names an outside address (DOCTYPE, metadata, namespaces) goes: HTML needs none of it. The
    areas of each of its axes, which tell their values, lie over the picture.
    """
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace(' id="', f' id="{name}-').replace("url(#", f"url(#{name}-")
    svg = svg.replace('xlink:href="#', f'href="#{name}-')
    svg = svg.replace(_INK, "currentColor")
    over = Markup().join(map(hover_svg, figure.axes, areas))
    return Markup(svg.replace("</svg>", f"{over}</svg>"))
