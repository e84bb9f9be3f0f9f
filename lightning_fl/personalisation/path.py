"""The fine-tuning that a candidate builds on: the last one before it in the list."""

from collections.abc import Sequence

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import FineTune


def last_path(found: Sequence[Variant]) -> list[Variant]:
    """The snapshots of the last fine-tuning, in ascending order of steps; none without any."""
    paths = [variant.path for variant in found if variant.path]
    return [variant for variant in found if paths and variant.path == paths[-1]]


def require_path(candidate: str, before: Sequence[Candidate]) -> FineTune:
    """The last fine-tuning among some candidates.

    Raises:
        ConfigError: there is none.
    """
    found = [one for one in before if isinstance(one, FineTune)]
    if not found:
        raise ConfigError(
            f"{candidate} builds on a fine-tuning, but no FineTune stands before it in "
            "`personalisation.candidates`. Put one there."
        )
    return found[-1]
