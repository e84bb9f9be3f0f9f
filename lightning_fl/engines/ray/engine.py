"""Host sites in processes of a Ray cluster: for several GPUs or machines of one owner."""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from lightning_fl.engines.base import Engine, MakeSite, T
from lightning_fl.engines.ray.cluster import cluster, resources, worker_for
from lightning_fl.engines.ray.host import Surroundings, marked
from lightning_fl.engines.ray.transport import RayTransport
from lightning_fl.errors import ConfigError
from lightning_fl.wire.transport import Transport


class Ray(Engine):
    """Sites in processes of a Ray cluster, several at once; see docs/engines.md.

    All machines need the same packages at the same paths and see the run's folder: this engine is
    for one owner. Between hospitals that do not trust each other it keeps nothing apart.

    Args:
        timeout: seconds for one operation of a site, counted from its turn in its process; then
            the process is ended, and the site dropped from the round.
        workers: processes; sites share them where there are more sites. Null for as many as there
            are sites and room for.
        cpus: CPU cores that Ray sets aside for each process; may be a fraction.
        gpus: of each process, e.g. 0.5 for two on one GPU; with 0 it sees none.
        address: of a running cluster, e.g. 10.0.0.1:6379 or auto; null starts one here.
        threads: of torch in each process; null for as many as the coordinator has, which gives the
            numbers of the Local engine.

    Raises:
        ConfigError: ray is not installed, or a setting cannot work.
    """

    def __init__(
        self,
        *,
        timeout: float = 3600.0,
        workers: int | None = None,
        cpus: float = 1.0,
        gpus: float = 0.0,
        address: str | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(timeout=timeout)
        if find_spec("ray") is None:
            raise ConfigError(
                "The engine Ray needs the package ray, which is not installed. Get it by `pip "
                'install "lightning-fl[ray]"`, or use the Local engine.'
            )
        for name, number in (("workers", workers), ("threads", threads)):
            if number is not None and number < 1:
                raise ConfigError(f"Expected `{name}` to be at least 1, or null, but got {number}.")
        if not cpus > 0:
            raise ConfigError(f"Expected `cpus` to be positive, but got {cpus}.")
        if not 0 <= gpus <= 1:
            raise ConfigError(
                f"Expected `gpus` to be between 0 and 1, since a site trains on one device, but "
                f"got {gpus}."
            )
        self.workers = workers
        self.cpus = cpus
        self.gpus = gpus
        self.address = address
        self.threads = threads

    def run(
        self, coordinate: Callable[[Transport], T], make_site: MakeSite, names: Sequence[str]
    ) -> T:
        """Start processes, let the coordinator do its work, and end them."""
        folder = getattr(make_site, "folder", None)  # of a run; sites of tests have none
        threads = self.threads or torch.get_num_threads()
        with cluster(self.address), marked(folder) as marker:
            surroundings = Surroundings(str(Path.cwd()), threads, marker=marker)
            count = self.count(len(names), resources())
            workers = [
                worker_for(names[i::count], make_site, surroundings, self.cpus, self.gpus)
                for i in range(count)
            ]
            try:
                return coordinate(RayTransport(workers))
            finally:
                for worker in workers:
                    worker.give_up()

    def count(self, sites: int, machines: Sequence[Mapping[str, float]]) -> int:
        """Count the processes to start; more than sites would have nothing to do.

        Raises:
            ConfigError: there is no room for them.
        """
        room = sum(self._room(machine) for machine in machines)
        wanted = min(sites, room if self.workers is None else self.workers)
        if room < max(wanted, 1):
            sizes = " and ".join(
                f"{machine.get('CPU', 0):g} CPUs, {machine.get('GPU', 0):g} GPUs"
                for machine in machines
            )
            raise ConfigError(
                f"{max(wanted, 1)} `engine.workers` of {self.cpus:g} `cpus` and {self.gpus:g} "
                f"`gpus` do not fit into {sizes}, where {room} do. Set fewer workers, or smaller "
                "`cpus` and `gpus`, which may be fractions."
            )
        return wanted

    def _room(self, machine: Mapping[str, float]) -> int:
        """Count the processes that fit on one machine."""
        needs = {"CPU": self.cpus, "GPU": self.gpus}
        fits = [machine.get(kind, 0.0) / need for kind, need in needs.items() if need]
        return math.floor(min(fits) + 1e-6)  # three times a third is one
