"""What a ring's settings must be for site-level privacy to hold on its grid."""

from lightning_fl.aggregation.ring.parameters import choose, is_compact
from lightning_fl.errors import ConfigError
from lightning_fl.privacy.noise import SiteNoise
from lightning_fl.privacy.release import rounding
from lightning_fl.training.layout import Layout

MOST_DEVIATIONS = 9.0
"""No noise is larger than so many standard deviations."""
MOST_ROUNDING = 0.01
"""Rounding may take so much of the clipping norm."""


def check_private_ring(noise: SiteNoise, layout: Layout, *, bits: int, hidden: bool) -> None:
    """Refuse hidden counts, the compact grid, and a clip that does not fit the grid.

    Args:
        noise: of the run.
        layout: of an update.
        bits: of the grid.
        hidden: whether counts are summed in the ring.

    Raises:
        ConfigError: names the setting and the remedy.
    """
    if hidden:
        raise ConfigError(
            "`privacy` and `weights: hidden` do not go together: the ring gives out the total of "
            "the counts without noise. Set `aggregator.weights: equal`."
        )
    if is_compact(bits):
        raise ConfigError(
            f"`privacy` needs the wide grid, but `aggregator.bits` is {bits}: what the compact one "
            "carries over to the next round is in no account of privacy. Set it to 24."
        )
    lost = rounding(layout.length, 2.0**-bits)
    if lost > MOST_ROUNDING * noise.clip:
        raise ConfigError(
            f"`privacy.clip` is {noise.clip}, but rounding {layout.length} values to {bits} bits "
            f"can move them by {lost:.2g}. Raise `clip` or `aggregator.bits`."
        )
    _check_reach(noise, bits)


def _check_reach(noise: SiteNoise, bits: int) -> None:
    """No value may be outside the grid, an error that would tell the coordinator of it."""
    if noise.noise_multiplier == 0:  # nothing is promised
        return
    for sites in range(max(noise.colluding + 1, 2), noise.most + 1):
        largest = noise.clip + MOST_DEVIATIONS * noise.share(sites)
        reach = choose(bits, sites).limit * 2.0**-bits
        if largest > reach:
            raise ConfigError(
                f"With `privacy.clip` {noise.clip} and a noise multiplier of "
                f"{noise.noise_multiplier:.4g} a site's values can be as large as {largest:.4g}, "
                f"but the grid for {sites} sites ends at {reach:.4g}. Lower `clip` or "
                "`aggregator.bits`."
            )
