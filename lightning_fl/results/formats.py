"""Numbers as a person reads them; a number that is missing or undefined is a dash."""

import math

DISTANCES = {"hd95": "mm", "assd": "mm", "hd95_px": "px", "assd_px": "px"}
"""Units of distances between surfaces: in pixels where the size of a pixel is not known."""

LOWER_IS_BETTER = frozenset({"loss", "ece", "volume_error", *DISTANCES})
"""Metrics whose worst value is the highest one."""

UNITS = {"loss": "", "volume_error": "ml", **DISTANCES}
"""Units of the metrics that are no fractions; all others are shown in percent."""

NAMES = {
    "dice": "Dice",
    "dice_pooled": "Dice (pooled)",
    "iou": "IoU",
    "auroc": "AUROC",
    "f1": "F1",
    "ece": "calibration error",
    "balanced_accuracy": "balanced accuracy",
    "hd95": "HD95",
    "hd95_px": "HD95",
    "assd": "ASSD",
    "assd_px": "ASSD",
    "volume_error": "volume error",
}

MISSING = "–"  # noqa: RUF001  an en dash is the usual mark of an empty cell


def score_text(value: float | None, metric: str) -> str:
    """Return "61.3" for a fraction such as Dice, "0.613" for a loss and "8.2" for mm or ml."""
    return _scaled(value, metric, "")


def gain_text(value: float | None, metric: str) -> str:
    """Return a difference of two scores with its sign, e.g. "+9.8" (percentage points)."""
    return _scaled(value, metric, "+")


def spread_text(mean: float | None, sd: float | None, metric: str) -> str:
    """Return "61.3 ± 8.2" for a mean with its standard deviation, "61.3" where there is none."""
    parts = [score_text(mean, metric), score_text(sd, metric)]
    return " ± ".join(parts) if MISSING not in parts else parts[0]


def range_text(low: float | None, high: float | None, metric: str) -> str:
    """Return "55.1 to 66.0" for an interval."""
    parts = [score_text(low, metric), score_text(high, metric)]
    return " to ".join(parts) if MISSING not in parts else MISSING


def _scaled(value: float | None, metric: str, sign: str) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{scale(metric) * value:{sign}.{3 if metric == 'loss' else 1}f}"


def unit(metric: str) -> str:
    """Return the unit of `score_text` with a blank before it: " %", " mm", or "" for a loss."""
    return f" {UNITS.get(metric, '%')}".rstrip()


def gain_unit(metric: str) -> str:
    """Return the unit of `gain_text` as `unit` does: a gain of fractions is in points."""
    return unit(metric).replace("%", "points")


def in_unit(metric: str) -> str:
    """Return the unit for a sentence: " in percent", " in mm", or "" for a loss."""
    return f" in{unit(metric)}".replace("%", "percent") if unit(metric) else ""


def scale(metric: str) -> int:
    """Return what a value is multiplied by to be shown in its unit."""
    return 1 if metric in UNITS else 100


def metric_name(metric: str) -> str:
    """Return a metric's name as it stands in a sentence: "dice" is named after a person."""
    return NAMES.get(metric, metric)


def heading(metric: str) -> str:
    """Return a metric's name and unit for an axis or a column: "Dice, %", "HD95, mm", "loss"."""
    return ",".join(filter(None, (metric_name(metric), unit(metric))))


def bytes_text(count: float) -> str:
    """Return a number of bytes in decimal units, e.g. "1.2 GB"."""
    for name in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            digits = ".0f" if name == "bytes" or count >= 100 else ".3g"
            return f"{count:{digits}} {name}"
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
