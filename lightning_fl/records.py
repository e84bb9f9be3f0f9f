"""What a run writes down: one metric, one cost; the columns of metrics.csv and costs.csv."""

from typing import NamedTuple


class MetricRow(NamedTuple):
    """One number about one model at one site.

    Attributes:
        round: rounds that the model has been trained for.
        site: name of the hospital.
        model: "global" (as it came out of the federation), "global_bn" (BatchNorm re-estimated on
            the site's own training images), "personal" (after the site's personalisation), or
            "local" and "local_bn" where a site trained alone.
        split: "train", "val" or "test".
        metric: e.g. "dice" or "loss".
        value: the number.
    """

    round: int
    site: str
    model: str
    split: str
    metric: str
    value: float


class CostRow(NamedTuple):
    """One operation of one site: bytes that crossed its boundary (both ways) and its seconds."""

    round: int
    site: str
    operation: str
    bytes: int
    seconds: float
