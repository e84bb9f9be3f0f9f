"""Sites simulated on this machine by NVFlare, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from lightning_fl.engines.nvflare.jobs import END, Jobs
from lightning_fl.errors import ConfigError


class SimulatedJobs(Jobs):
    """One job of NVFlare's simulator for all sites, without certificates.

    Args:
        sites: all of them.
        log: file for what NVFlare says.
        gpus: of the sites, in the words of NVFlare's simulator; "" for all the same.
    """

    def __init__(self, sites: Sequence[str], log: Path, gpus: str = "") -> None:
        self.sites = tuple(sites)
        self.log = log
        self.gpus = gpus
        self._processes: dict[str, psutil.Process] = {}
        self._simulator: subprocess.Popen[bytes] | None = None

    def start(self, post: Path, sites: Sequence[str]) -> None:
        """Start the simulator; it always hosts all sites."""
        del sites
        self._workspace = TemporaryDirectory(
            prefix="lightning-fl-nvflare-", ignore_cleanup_errors=True
        )
        # NVFlare allows fewer letters in names than hospitals have
        clients = {site: f"site-{number}" for number, site in enumerate(self.sites, 1)}
        command = [sys.executable, "-m", "lightning_fl.engines.nvflare.simulate"]
        arguments = [str(post), self._workspace.name, json.dumps(clients), self.gpus]
        with self.log.open("ab") as log:
            self._simulator = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the coordinator alone
            )

    def check(self) -> None:
        """See whether the simulator still runs; its log says why it has ended."""
        if self._simulator is not None and self._simulator.poll() is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
            raise ConfigError(
                f"NVFlare's simulator ended with status {self._simulator.returncode}; its log "
                f"{self.log} ends with: {''.join(last) or 'nothing'}"
            )

    def stop(self, sites: Sequence[str]) -> None:
        """Wait a little, then end the processes that are left."""
        del sites
        if self._simulator is None:
            return
        with suppress(psutil.NoSuchProcess):
            simulator = psutil.Process(self._simulator.pid)
            # a site that was orphaned is no child any more
            family = [*simulator.children(recursive=True), simulator, *self._processes.values()]
            _, left = psutil.wait_procs(family, timeout=END)
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._simulator.wait()
        self._simulator = None
        self._processes = {}
        self._workspace.cleanup()

    def returning(self, lost: Sequence[str]) -> tuple[str, ...]:
        """Return all sites: a simulation is started as a whole."""
        return self.sites if lost else ()

    def welcome(self, processes: Mapping[str, int]) -> None:
        """Remember the sites' processes."""
        for site, number in processes.items():
            with suppress(psutil.NoSuchProcess):
                self._processes[site] = psutil.Process(number)

    def is_alive(self, site: str) -> bool:
        """Say whether the site's process runs, or has not told its number yet."""
        if site not in self._processes:
            return True
        with suppress(psutil.NoSuchProcess):
            process = self._processes[site]
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        return False

    def kill(self, site: str) -> bool:
        """End the site's process; say whether it was there."""
        with suppress(psutil.NoSuchProcess, KeyError):
            self._processes[site].kill()
            return True
        return False
