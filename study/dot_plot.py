"""Differences with their intervals, drawn as SVG in the ink of the page."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from lightning_fl.results.formats import LOWER_IS_BETTER, scale
from lightning_fl.results.report.colours import MODEL_COLOURS
from study.statistics import Interval

WIDTH = 820.0
LEFT = 230.0
"""Where the axis begins, unless a name needs more; the names stand before it."""
LETTER = 7.5
"""Width of a letter of the names, on average."""
ROW = 26.0
BETTER, WORSE, UNCLEAR = MODEL_COLOURS["local"], MODEL_COLOURS["personal"], "currentColor"


def dot_plot(differences: Mapping[str, Interval], metric: str) -> str:
    """A dot a method with its interval, and a line at no difference.

    Args:
        differences: to the reference; those without a value are left out.
        metric: a fraction is shown in points.

    Returns:
        An `<svg>` element, or "" where there is nothing to draw.
    """
    shown = {name: d for name, d in differences.items() if math.isfinite(d.mean)}
    if not shown:
        return ""
    factor = scale(metric)
    ends = [0.0, *(factor * v for d in shown.values() for v in _ends(d))]
    ticks = ticks_for(min(ends), max(ends))
    bottom = ROW * len(shown) + 12
    left = max(LEFT, 20 + LETTER * max(map(len, shown)))
    width = left + WIDTH - LEFT

    def place(value: float) -> float:
        return left + (width - left - 20) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = [_tick(place(tick), tick, bottom) for tick in ticks]
    for number, (name, interval) in enumerate(shown.items()):
        y = ROW * (number + 0.5) + 6
        parts.append(
            f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        low, high = (place(factor * end) for end in _ends(interval))
        colour = colour_of(interval, metric)
        parts.append(
            f'<g stroke="{colour}" fill="{colour}">'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke-width="2"/>'
            f'<circle cx="{place(factor * interval.mean):.1f}" cy="{y}" r="4.5"/></g>'
        )
    return (
        f'<svg viewBox="0 0 {width:.0f} {bottom + 26:.0f}" role="img" font-size="13"'
        f' fill="currentColor" aria-label="differences to the reference">{"".join(parts)}</svg>'
    )


def colour_of(interval: Interval, metric: str) -> str:
    """Green where the whole interval is better than no difference, red where it is worse."""
    if not interval.low * interval.high > 0:  # NaN too
        return UNCLEAR
    return BETTER if (interval.mean > 0) != (metric in LOWER_IS_BETTER) else WORSE


def ticks_for(low: float, high: float) -> Sequence[float]:
    """About six round numbers from below `low` to above `high`."""
    span = max(high - low, 1e-9)
    rough = 10 ** math.floor(math.log10(span / 5))
    step = next(step for m in (1, 2, 5, 10) if (step := m * rough) * 6 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _ends(interval: Interval) -> tuple[float, float]:
    """The interval's ends, or twice the mean where one value has no interval."""
    if math.isfinite(interval.low):
        return interval.low, interval.high
    return interval.mean, interval.mean


def _tick(x: float, value: float, bottom: float) -> str:
    zero = abs(value) < 1e-12
    opacity, label = (0.8, "0") if zero else (0.15, f"{value:+g}")
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom}" stroke="currentColor"'
        f' opacity="{opacity}"/><text x="{x:.1f}" y="{bottom + 18:.0f}" text-anchor="middle"'
        f">{label}</text>"
    )
