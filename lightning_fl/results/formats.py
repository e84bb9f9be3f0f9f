"""Numbers as a person reads them; a number that is missing or undefined is a dash."""

import math

LOWER_IS_BETTER = frozenset({"loss"})
"""Metrics whose worst value is the highest one; all others are fractions, best when high."""

MISSING = "–"  # noqa: RUF001  an en dash is the usual mark of an empty cell


def score_text(value: float, metric: str) -> str:
    """Return "61.3" (percent) for a fraction such as Dice, and "0.613" for a loss."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.3f}" if metric in LOWER_IS_BETTER else f"{100 * value:.1f}"


def gain_text(value: float, metric: str) -> str:
    """Return a difference of two scores with its sign, e.g. "+9.8" (percentage points)."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:+.3f}" if metric in LOWER_IS_BETTER else f"{100 * value:+.1f}"


def unit(metric: str) -> str:
    """Return the unit of `score_text`: " %", or nothing for a loss."""
    return "" if metric in LOWER_IS_BETTER else " %"


def metric_name(metric: str) -> str:
    """Return a metric's name as it stands in a sentence: "dice" is named after a person."""
    return {"dice": "Dice", "iou": "IoU", "auroc": "AUROC"}.get(metric, metric)


def bytes_text(count: float) -> str:
    """Return a number of bytes in decimal units, e.g. "1.2 GB"."""
    for name in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return (
                f"{count:.0f} {name}" if name == "bytes" or count >= 100 else f"{count:.3g} {name}"
            )
        count /= 1000
    return f"{count:.3g} TB"


def seconds_text(seconds: float) -> str:
    """Return a duration in two units at most: "40 ms", "12.3 s", "4 min 5 s" or "2 h 3 min"."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
