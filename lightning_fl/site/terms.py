"""What a hospital asks of every run, and how much of its scores it lets out."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SiteTerms:
    """Limits that a site holds whatever a coordinator asks; the defaults are a simulation's.

    Attributes:
        verified: whether only weights count that the site can verify, by pinned identities.
        least_sites: the fewest sites of a sum that the site takes part in.
        least_cases: the fewest patients of a split whose scores leave the site.
        decimals: places to which scores are rounded; losses then stay. None lets scores out as
            they are.
        first_weights: digests of weights that a run may begin with, beside those that follow from
            its settings.
        epsilon: privacy budget over all runs of the site's data; None for none.
        runs: folder of all runs of the hospital; None where there is this run alone.
        delta: at which the budget is counted, whatever a run counts at.
    """

    verified: bool = False
    least_sites: int = 1
    least_cases: int = 1
    decimals: int | None = None
    epsilon: float | None = None
    first_weights: tuple[str, ...] = ()
    runs: Path | None = None
    delta: float = 1e-5
