"""How the NVFlare job is started and stopped: simulated here, or on an installed federation."""

import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from lightning_fl.errors import ConfigError

END = 5.0
"""Seconds for a simulation to end by itself before its processes are ended."""
POLL = 1.0
"""Seconds between two looks at who is connected."""
SIMULATOR = "lightning_fl.engines.nvflare.simulate"


class Job(ABC):
    """A job, which can be started again after it was stopped.

    Attributes:
        clients: NVFlare's name of each site.
    """

    clients: dict[str, str]

    @abstractmethod
    def start(self, post: Path, least: int) -> None:
        """Start.

        Args:
            post: folder of the coordinator's `Post`.
            least: sites without which it does not start.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise what there is to say where the job has ended, or cannot start."""

    @abstractmethod
    def stop(self) -> None:
        """End it, once the coordinator has hung up."""

    def welcome(self, processes: Mapping[str, int]) -> None:  # noqa: B027  not all need it
        """Hear the number of each site's process."""

    def is_alive(self, site: str) -> bool:
        """Whether a site's process is there, as far as can be seen from here."""
        del site
        return True

    def end(self, site: str) -> bool:
        """End a site's process that hangs, where it is on this machine; says whether it could."""
        del site
        return False

    @abstractmethod
    def has(self, sites: Sequence[str]) -> bool:
        """Whether one of some lost sites would be there again if the job were started again."""


class SimulatedJob(Job):
    """The job on this machine, in a process for each site, without certificates.

    Args:
        sites: names.
        log: file for what NVFlare says.
        gpus: of the sites, in the words of NVFlare's simulator; "" for all the same.
    """

    def __init__(self, sites: Sequence[str], log: Path, gpus: str = "") -> None:
        # NVFlare allows fewer letters in names than hospitals have
        self.clients = {site: f"site-{number + 1}" for number, site in enumerate(sites)}
        self.log = log
        self.gpus = gpus
        self._processes: dict[str, psutil.Process] = {}

    def start(self, post: Path, least: int) -> None:
        """Start the simulator; it needs all sites."""
        del least
        self._workspace = TemporaryDirectory(prefix="lightning-fl-nvflare-")
        names = json.dumps(self.clients)
        arguments = [str(post), self._workspace.name, names, self.gpus]
        self._processes = {}
        with self.log.open("ab") as log:
            self._simulator = subprocess.Popen(
                [sys.executable, "-m", SIMULATOR, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the coordinator's to hear
            )

    def check(self) -> None:
        """See whether the simulator still runs.

        Raises:
            ConfigError: it does not; the log says why.
        """
        if self._simulator.poll() is not None:
            raise ConfigError(
                f"NVFlare's simulator ended with status {self._simulator.returncode}; see the end "
                f"of {self.log}."
            )

    def stop(self) -> None:
        """Wait a little, then end the processes that are left."""
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._simulator.pid).children(recursive=True)
            family.append(psutil.Process(self._simulator.pid))
            _, left = psutil.wait_procs(family, timeout=END)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._simulator.wait()
        self._workspace.cleanup()

    def welcome(self, processes: Mapping[str, int]) -> None:
        """Remember the sites' processes."""
        for site, number in processes.items():
            with suppress(psutil.NoSuchProcess):
                self._processes[site] = psutil.Process(number)

    def is_alive(self, site: str) -> bool:
        """Whether its process runs."""
        process = self._processes.get(site)
        if process is None:
            return True  # it has not told its number yet
        try:
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def end(self, site: str) -> bool:
        """Kill its process."""
        with suppress(psutil.NoSuchProcess, KeyError):
            self._processes[site].kill()
            return True
        return False

    def has(self, sites: Sequence[str]) -> bool:
        """Always: a new simulation has them all."""
        return bool(sites)


class DeployedJob(Job):
    """The job on an installed federation, whose server is on this machine.

    Args:
        sites: names, which are NVFlare's.
        kit: folder of the startup kit of a user who may submit jobs, named as the user.
        wait: seconds that sites have to connect.

    Raises:
        ConfigError: there is no such kit.
    """

    def __init__(self, sites: Sequence[str], kit: Path, wait: float) -> None:
        if not (kit / "startup").is_dir():
            raise ConfigError(
                f"There is no startup kit in {str(kit)!r}: it has no folder `startup`. "
                "`engine.kit` is the folder of the user who starts runs; see docs/deploy.md."
            )
        self.clients = {site: site for site in sites}
        self.kit = kit
        self.wait = wait
        self._session: Any = None
        self._job = ""

    def start(self, post: Path, least: int) -> None:
        """Wait until enough sites are connected, and submit the job.

        Raises:
            ConfigError: the server cannot be reached, or sites are not there.
        """
        from lightning_fl.engines.nvflare.submit import submit

        if self._session is None:
            self._session = self._log_in()
        self._await(least)
        self._job = submit(self._session, post, self.clients, least)
        self._ended = False
        self._looked = time.monotonic()

    def check(self) -> None:
        """See whether the job still runs.

        Raises:
            ConfigError: it has ended; NVFlare's logs say why.
        """
        if time.monotonic() - self._looked < 5 * POLL:
            return
        self._looked = time.monotonic()
        status = self._status()
        if status.startswith(("FINISHED", "FAILED")):
            self._ended = True
            raise ConfigError(
                f"NVFlare's job {self._job} ended as {status} before the run did. The logs of the "
                "server and the sites say why; often a class is not in `class_allow_list` of "
                "local/resources.json, see docs/deploy.md."
            )

    def stop(self) -> None:
        """Wait a little for the job to end by itself, then abort it."""
        end = time.monotonic() + END
        with suppress(Exception):  # the server may be gone
            while not self._ended and time.monotonic() < end:
                time.sleep(POLL)
                self._ended = self._status().startswith("FINISHED")
            if not self._ended:
                self._session.abort_job(self._job)
        with suppress(Exception):
            self._session.close()  # its threads would keep this process from ending
        self._session = None

    def has(self, sites: Sequence[str]) -> bool:
        """Whether one of them is connected and could take part again."""
        with suppress(Exception):  # a server that is gone has nobody
            return not self._connected().isdisjoint(sites)
        return False

    def _status(self) -> str:
        return str(self._session.get_job_status(self._job))

    def _log_in(self) -> Any:
        from nvflare.fuel.flare_api.flare_api import new_secure_session

        try:
            return new_secure_session(self.kit.name, str(self.kit), timeout=self.wait)
        except Exception as error:
            raise ConfigError(
                f"The NVFlare server does not let {self.kit.name!r} in ({error}). Start the server "
                f"first, and take the kit of this federation: {self.kit}."
            ) from error

    def _connected(self) -> set[str]:
        return {client.name for client in self._session.get_system_info().client_info}

    def _await(self, least: int) -> None:
        end = time.monotonic() + self.wait
        while len(there := self._connected() & set(self.clients)) < len(self.clients):
            if time.monotonic() > end:
                break
            time.sleep(POLL)
        if len(there) < least:
            missing = sorted(set(self.clients) - there)
            raise ConfigError(
                f"{len(missing)} of {len(self.clients)} sites have not connected in {self.wait:g} "
                f"seconds: {', '.join(missing)}. Start them (startup/start.sh of their kits), or "
                "correct `engine.sites`."
            )
