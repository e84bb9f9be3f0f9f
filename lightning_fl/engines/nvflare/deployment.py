"""Sites at hospitals that have joined a federation of NVFlare, whose server is on this machine."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nvflare.fuel.flare_api.flare_api import new_secure_session

from lightning_fl.engines.nvflare.job import JOB, Recipe
from lightning_fl.engines.nvflare.jobs import END, Jobs
from lightning_fl.errors import ConfigError

POLL = 1.0
"""Seconds between two looks at who is connected and which job has ended."""


@contextmanager
def _server_answers() -> Iterator[None]:
    """Say that the server does not answer, whichever of its exceptions NVFlare raises."""
    try:
        yield
    except Exception as error:
        raise ConfigError(f"The NVFlare server does not answer: {error!r}.") from error


class Deployment(Jobs):
    """One job for each site, since NVFlare ends a job when one of its sites is lost.

    Args:
        kit: folder of the startup kit of a user who may submit jobs, named as the user.
        wait: seconds that sites have to connect.

    Raises:
        ConfigError: there is no such kit.
    """

    def __init__(self, kit: Path, wait: float) -> None:
        if not (kit / "startup" / "fed_admin.json").is_file():
            raise ConfigError(
                f"There is no startup kit of a user in {str(kit)!r}: it has no "
                "startup/fed_admin.json. `engine.kit` is the folder of the user who starts runs; "
                "see docs/deploy.md."
            )
        self.kit = kit
        self.wait = wait
        self._session: Any = None
        self._jobs: dict[str, str] = {}
        self._starting: tuple[str, ...] = ()
        self._looked = 0.0

    def start(self, post: Path, sites: Sequence[str]) -> None:
        """Wait until the sites are connected, and submit their jobs."""
        self._starting = tuple(sites)
        if self._session is None:
            self._session = self._log_in()
        self._await(sites)
        for site in sites:
            recipe = Recipe(str(post), {site: site}, simulated=False)
            with TemporaryDirectory() as folder:
                recipe.export(folder)
                with _server_answers():
                    self._jobs[site] = self._session.submit_job(str(Path(folder) / JOB))

    def check(self) -> None:
        """See whether the jobs still run; NVFlare's logs say why one has ended."""
        if time.monotonic() < self._looked + 2 * POLL:
            return
        self._looked = time.monotonic()
        for site in self._starting:  # others may be lost, and their jobs over
            job = self._jobs[site]
            if (status := self._status(job)).startswith("FINISHED"):
                raise ConfigError(
                    f"NVFlare's job {job} of site {site!r} ended as {status} before it began. The "
                    "logs of the server and of the site say why; often a class is not in "
                    "`class_allow_list` of local/resources.json: run `python -m "
                    "lightning_fl.hospital.prepare_kit` for the kit, see docs/deploy.md."
                )

    def stop(self, sites: Sequence[str]) -> None:
        """Wait a little for the jobs to end by themselves, then abort them."""
        jobs = [self._jobs.pop(site) for site in sites if site in self._jobs]
        end = time.monotonic() + END
        with suppress(Exception):  # the server may be gone
            while jobs and time.monotonic() < end:
                time.sleep(POLL)
                jobs = [job for job in jobs if not self._status(job).startswith("FINISHED")]
            for job in jobs:
                self._session.abort_job(job)

    def close(self) -> None:
        """Log out; the session's threads would keep this process from ending."""
        with suppress(Exception):
            self._session.close()

    def returning(self, lost: Sequence[str]) -> tuple[str, ...]:
        """Return the lost sites that are connected."""
        with suppress(Exception):  # a server that is gone has nobody
            return tuple(site for site in lost if site in self._connected())
        return ()

    @_server_answers()
    def _status(self, job: str) -> str:
        return str(self._session.get_job_status(job))

    @_server_answers()
    def _connected(self) -> set[str]:
        return {client.name for client in self._session.get_system_info().client_info}

    def _await(self, sites: Sequence[str]) -> None:
        end = time.monotonic() + self.wait
        while missing := sorted({*sites} - self._connected()):
            if time.monotonic() > end:
                raise ConfigError(
                    f"{len(missing)} of {len(sites)} sites have not connected in {self.wait:g} "
                    f"seconds: {', '.join(missing)}. Start them (startup/start.sh of their kits), "
                    "or correct `engine.sites`."
                )
            time.sleep(POLL)

    def _log_in(self) -> Any:
        try:
            return new_secure_session(self.kit.name, str(self.kit), timeout=self.wait)
        except Exception as error:
            raise ConfigError(
                f"The NVFlare server does not let {self.kit.name!r} in ({error}). Start the server "
                f"first, and take the kit of this federation: {self.kit}."
            ) from error
