"""What a run writes down: the columns of metrics.csv, costs.csv and transcript.csv."""

from typing import NamedTuple

TRAINING = "training"
"""Stands for the model in rows of metrics.csv about a round's training."""


class MetricRow(NamedTuple):
    """One number about one model at one site.

    Attributes:
        round: rounds that the model has been trained for.
        model: "global" (as it came out of the federation), "global_bn" (BatchNorm re-estimated on
            the site's own training images), "finetuned" (after plain fine-tuning), "personal"
            (after the site's personalisation), "personal@K" (a hospital that did not train, after
            personalising with K patients), or "local" and "local_bn" where a site trained alone;
            "training" for the curves of a round's training.
        split: "train", "val" or "test".
        metric: e.g. "dice" or "loss".
    """

    round: int
    site: str
    model: str
    split: str
    metric: str
    value: float


class CostRow(NamedTuple):
    """One operation of one site, or a part of one.

    Attributes:
        operation: e.g. "train", or a part of an operation, e.g. "ring_pass: encrypt". The row of
            an operation holds what its parts leave, so sums stay right.
        bytes_up: sent by the site; `bytes_down` are received.
        seconds: from the question to the answer.
    """

    round: int
    site: str
    operation: str
    bytes_up: int
    bytes_down: int
    seconds: float

    @property
    def bytes(self) -> int:
        """The bytes that crossed the site's boundary, both ways."""
        return self.bytes_up + self.bytes_down


class TranscriptRow(NamedTuple):
    """One message that crossed the boundary of a site.

    Attributes:
        ring: identifier of the ring, "" outside of one.
        step: number of the block.
        operation: what the site was asked, or what it answered.
        site: whose boundary.
        direction: "in" or "out".
        sender: who made the message; the coordinator relays what sites send each other.
        recipient: the site that it is for, "" for a broadcast.
        digest: SHA-256 of the message's body, in hexadecimal.
        seconds: for "out", from the question to the answer.
    """

    round: int
    ring: str
    step: int
    operation: str
    site: str
    direction: str
    sender: str
    recipient: str
    bytes: int
    digest: str
    seconds: float
