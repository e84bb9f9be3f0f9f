"""The base class of the settings under the key `privacy`."""

import math
from abc import ABC, abstractmethod

from lightning_fl.errors import ConfigError
from lightning_fl.privacy.accountant import noise_for


class DifferentialPrivacy(ABC):
    """A bound on what a run's models tell about one site, or about one training sample.

    Args:
        noise_multiplier: standard deviation of the noise divided by the clipping norm; give this
            or `target_epsilon`.
        target_epsilon: choose the least noise with which the whole run stays at this epsilon.
        delta: probability with which the bound may fail.
    """

    def __init__(
        self, noise_multiplier: float | None, target_epsilon: float | None, delta: float
    ) -> None:
        if (noise_multiplier is None) == (target_epsilon is None):
            raise ConfigError(
                "Expected one of `privacy.noise_multiplier` and `privacy.target_epsilon`, but got "
                f"{noise_multiplier} and {target_epsilon}. Set the other to null."
            )
        if noise_multiplier is not None and not 0 <= noise_multiplier < math.inf:
            raise ConfigError(
                "Expected `privacy.noise_multiplier` to be at least 0 and finite, but got "
                f"{noise_multiplier}."
            )
        if target_epsilon is not None:
            require_positive("target_epsilon", target_epsilon)
        if not 0 < delta < 1:
            raise ConfigError(f"Expected `privacy.delta` to lie between 0 and 1, but got {delta}.")
        self.noise_multiplier = noise_multiplier
        self.target_epsilon = target_epsilon
        self.delta = delta

    def multiplier(self, steps: int, sample_rate: float = 1.0) -> float:
        """Return the noise multiplier for so many steps; see `noise_for` where there is a target.

        Raises:
            ConfigError: the target cannot be met.
        """
        if self.target_epsilon is None:
            return self.noise_multiplier or 0.0
        return noise_for(self.target_epsilon, self.delta, steps, sample_rate)

    @property
    @abstractmethod
    def protects(self) -> str:
        """The word for what is protected: "site" or "sample"."""


def require_positive(name: str, value: float) -> None:
    """Refuse a setting that is not positive and finite."""
    if not 0 < value < math.inf:
        raise ConfigError(f"Expected `privacy.{name}` to be positive and finite, but got {value}.")
