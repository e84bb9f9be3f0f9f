"""The errors a user can meet, each naming the value and the remedy."""

from typing import Literal

SiteErrorKind = Literal["failed", "non_finite", "garbled", "lost", "timeout"]


class ConfigError(ValueError):
    """A setting that cannot work; raised before anything is trained."""


class AgreementError(ConfigError):
    """Versions, clocks or settings on which two sides differ.

    Its text holds what the other side has sent and public versions alone, so it may leave a
    hospital.
    """


class DataError(ValueError):
    """Data of a hospital that cannot be used; names the site and, where there is one, the file."""


class HospitalError(RuntimeError):
    """What leaves a hospital of an error there: its kind and a number, and nothing else."""


class NonFiniteError(ArithmeticError):
    """A site's training gave NaN or infinity; its update must never be averaged."""


class OutOfRangeError(ArithmeticError):
    """A number outside what the fixed-point grid, or a sum of the sites' integers, can hold."""


class SiteError(RuntimeError):
    """A site did not answer an operation.

    Attributes:
        site: name of the site.
        op: the operation it was asked for.
        kind: "failed" (it raised), "non_finite" (its training gave NaN or infinity), "garbled"
            (its answer was damaged, or not one to what was asked), "lost" (its process is gone) or
            "timeout".
        detail: what is known about the reason, for a person to read.
    """

    def __init__(self, site: str, op: str, kind: SiteErrorKind, detail: str) -> None:
        super().__init__(f"Site {site!r} did not answer {op!r} ({kind}): {detail}")
        self.site = site
        self.op = op
        self.kind: SiteErrorKind = kind
        self.detail = detail


class TooFewSitesError(RuntimeError):
    """Fewer sites than `min_sites` are left in a round; the run is saved and can be resumed."""
