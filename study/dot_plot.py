"""Draw differences with their intervals as SVG, in the ink of the page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from lightning_fl.results.formats import LOWER_IS_BETTER, scale
from lightning_fl.results.report.colours import MODEL_COLOURS
from lightning_fl.results.report.rendering import environment
from study.statistics import Interval

TEMPLATES = environment(Path(__file__).parent / "templates")
AXIS = 590.0
"""Width of the axis."""
LEFT = 230.0
"""Where the axis begins, unless a name needs more; the names stand before it."""
LETTER = 7.5
"""Width of a letter of the names, on average."""
BETTER, WORSE, UNCLEAR = MODEL_COLOURS["local"], MODEL_COLOURS["personal"], "currentColor"


def dot_plot(differences: Mapping[str, Interval], metric: str) -> Markup:
    """Return an `<svg>` with a dot and its interval for each method, and a line at no difference.

    Args:
        differences: to the reference; those without a value are left out, and "" is returned where
            none has one.
        metric: a fraction is shown in points.
    """
    shown = {name: interval for name, interval in differences.items() if interval.n}
    if not shown:
        return Markup()
    ends = [scale(metric) * end for interval in shown.values() for end in _ends(interval)]
    ticks = ticks_for(min(0.0, *ends), max(0.0, *ends))
    left = max(LEFT, 20 + LETTER * max(map(len, shown)))

    def place(value: float) -> float:
        return round(left + (AXIS - 20) * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    dots = []
    for name, interval in shown.items():
        low, high = _ends(interval)
        places = [place(scale(metric) * value) for value in (low, interval.mean, high)]
        dots.append((name, colour_of(interval, metric), *places))
    labels = [(place(tick), "0" if abs(tick) < 1e-12 else f"{tick:+g}") for tick in ticks]
    template = TEMPLATES.get_template("dot_plot.svg")
    return Markup(template.render(left=left, width=left + AXIS, ticks=labels, dots=dots))


def _ends(interval: Interval) -> tuple[float, float]:
    """Return the interval's ends, or twice the mean where one value has no interval."""
    if interval.n > 1:
        return interval.low, interval.high
    return interval.mean, interval.mean


def colour_of(interval: Interval, metric: str) -> str:
    """Return green where the whole interval is better than no difference, red where it is worse."""
    clear = interval.low * interval.high > 0  # not so for NaN
    return better_or_worse(interval.mean, metric) if clear else UNCLEAR


def better_or_worse(difference: float, metric: str) -> str:
    """Return green for a difference to the better, red for one to the worse."""
    return BETTER if (difference > 0) != (metric in LOWER_IS_BETTER) else WORSE


def ticks_for(low: float, high: float) -> Sequence[float]:
    """Return about six round numbers from below `low` to above `high`."""
    span = max(high - low, 1e-9)
    rough = 10 ** math.floor(math.log10(span / 5))
    step = next(step for m in (1, 2, 5, 10) if (step := m * rough) * 6 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]
