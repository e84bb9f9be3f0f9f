"""Site-level differential privacy: no one site's data matter much to the models of a run."""

from collections import Counter

from lightning_fl.errors import ConfigError
from lightning_fl.privacy.base import DifferentialPrivacy, require_positive
from lightning_fl.privacy.noise import SiteNoise


class SiteLevelDP(DifferentialPrivacy):
    """Clips each site's update and adds noise before it is summed (McMahan et al., 1710.06963).

    Each of n sites cuts its weighted update to L2 norm `clip` and adds Gaussian noise of standard
    deviation noise_multiplier * clip / sqrt(n - colluding), so that the sum carries
    noise_multiplier * clip also for somebody who knows the noise of `colluding` sites. What the
    run reports holds for one site whose updates become 0: its training data are as good as gone,
    while that it takes part and how many samples it has are no secret. See docs/privacy_dp.md.

    The noise comes from the operating system, never from `seed`: such a run gives other numbers
    each time.

    Args:
        clip: largest L2 norm of a site's update, all shared entries together, times its relative
            weight.
        noise_multiplier: noise of the sum divided by `clip`; give this or `target_epsilon`.
        target_epsilon: choose the noise so that the run, without a repeated round, stays at it.
        delta: probability with which the bound may fail; well below 1 / number of sites.
        colluding: sites that may work together against another one and subtract their own noise.
    """

    def __init__(
        self,
        *,
        clip: float = 1.0,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        delta: float = 1e-5,
        colluding: int = 0,
    ) -> None:
        super().__init__(noise_multiplier, target_epsilon, delta)
        require_positive("clip", clip)
        if colluding < 0:
            raise ConfigError(
                f"Expected `privacy.colluding` to be at least 0, but got {colluding}."
            )
        self.clip = clip
        self.colluding = colluding

    @property
    def protects(self) -> str:
        """The word for what is protected."""
        return "site"

    def resolve(self, chosen: list[tuple[str, ...]], least: int) -> SiteNoise:
        """Work out the numbers of a run, from the sites of each round and the least that a sum has.

        Raises:
            ConfigError: the target cannot be met, or too few sites could be honest.
        """
        if least <= self.colluding:
            raise ConfigError(
                f"`privacy.colluding` is {self.colluding}, but a round may have as few as {least} "
                f"sites, none of which would then add noise that counts. Set `min_sites` to at "
                f"least {self.colluding + 1}."
            )
        rounds = max(Counter(site for sites in chosen for site in sites).values())
        multiplier = self.multiplier(rounds)
        most = max(len(sites) for sites in chosen)
        return SiteNoise(self.clip, multiplier, self.delta, self.colluding, most)
