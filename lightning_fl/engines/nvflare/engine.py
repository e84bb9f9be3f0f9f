"""Host sites in processes of NVFlare, simulated or at hospitals with mutual TLS."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_fl.engines.base import Engine, MakeSite, PortableSites, T
from lightning_fl.engines.hosting import Invitation
from lightning_fl.engines.nvflare.jobs import Jobs
from lightning_fl.engines.nvflare.transport import NVFlareTransport
from lightning_fl.errors import ConfigError
from lightning_fl.wire.transport import Transport


class NVFlare(Engine):
    """Sites in processes of NVFlare 2.9.

    Without `kit`, a simulation: a process for each site on this machine, all of one owner.
    With it, hospitals that got startup kits from `nvflare provision`; see docs/deploy.md.

    Args:
        timeout: seconds after which a site that has not answered is dropped from the round.
        kit: folder of the startup kit of the user who starts runs; null to simulate.
        sites: with `kit`, the hospitals, by the names in their certificates.
        start_timeout: seconds for sites to connect and for the job to start.
        gpus: in a simulation the GPU of each site, as NVFlare writes it, e.g. "0,1"; "" for all
            the same.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(
        self,
        *,
        timeout: float = 3600.0,
        kit: str | None = None,
        sites: Sequence[str] = (),
        start_timeout: float = 300.0,
        gpus: str = "",
    ) -> None:
        super().__init__(timeout=timeout)
        if (kit is None) != (not sites):
            raise ConfigError(
                "`engine.kit` and `engine.sites` belong together: with hospitals give both, for a "
                f"simulation none, but got {kit!r} and {list(sites)}."
            )
        if not start_timeout > 0:
            raise ConfigError(f"Expected `start_timeout` to be positive, but got {start_timeout}.")
        self.kit = None if kit is None else Path(kit).expanduser()
        self.sites = tuple(sites)
        self.start_timeout = start_timeout
        self.gpus = gpus

    def run(
        self, coordinate: Callable[[Transport], T], make_site: MakeSite, names: Sequence[str]
    ) -> T:
        """Start the job, let its processes host the sites, and run the coordinator here.

        Raises:
            ConfigError: NVFlare is not installed, or the job does not start.
            SiteError: a site cannot be hosted.
        """
        if importlib.util.find_spec("nvflare") is None:
            raise ConfigError(
                "The NVFlare engine needs NVFlare: pip install 'lightning-fl[nvflare]'"
            )
        if not isinstance(make_site, PortableSites):
            raise ConfigError("NVFlare hosts the sites of a run that train.py has started.")
        logging.getLogger("nvflare").setLevel(logging.WARNING)
        invitations = {name: self._invitation(make_site, name, names).encode() for name in names}
        jobs = self._jobs(names, Path(make_site.folder))
        transport = NVFlareTransport(jobs, invitations, self.start_timeout)
        try:
            transport.open()
            return coordinate(transport)
        finally:
            transport.close()

    def _invitation(self, maker: PortableSites, site: str, names: Sequence[str]) -> Invitation:
        if self.kit is not None:
            return Invitation(site, maker.settings, maker.run, tuple(names))
        return Invitation(site, maker.settings, maker.run, (), maker.folder, maker.threads)

    def _jobs(self, names: Sequence[str], folder: Path) -> Jobs:
        if self.kit is not None:  # imported here, since NVFlare may be missing
            from lightning_fl.engines.nvflare.deployment import Deployment

            return Deployment(self.kit, self.start_timeout)
        from lightning_fl.engines.nvflare.simulation import SimulatedJobs

        return SimulatedJobs(names, folder / "nvflare.log", self.gpus)
