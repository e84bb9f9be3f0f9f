"""What hosts a site in a process of its own, and on whose terms."""

import csv
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.atomic import write_text
from lightning_fl.engines.hosting import HOST, SAME, Invitation
from lightning_fl.errors import ConfigError
from lightning_fl.finished_run import CONFIG
from lightning_fl.hospital_file import NAME, HospitalFile
from lightning_fl.kept_models import keep_models_of, keep_preprocessing
from lightning_fl.messages import MessageError, digest_of
from lightning_fl.results.summary import package_versions
from lightning_fl.site import Site
from lightning_fl.site_maker import SiteMaker, run_of

_log = logging.getLogger(__name__)
MESSAGES = "messages.csv"
"""What came into a hospital and what left it, in the folder of a run."""
COLUMNS = ("time", "operation", "direction", "bytes", "digest")


class Hospital:
    """Hosts one site: first answers `host`, then everything that the site answers.

    With a file of its own it is a hospital: the file decides what a run may name, where the data
    are and where private state goes. Without one it is a simulated site on the machine of its
    coordinator, and lives in the folder of the run.

    Args:
        file: of the hospital; None for a simulated site.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.site: Site | None = None
        self.folder = Path()

    @classmethod
    def of(cls, folder: Path | None) -> "Hospital":
        """The hospital whose file is in a folder; a simulated site for None."""
        return cls(None if folder is None else folder / NAME)

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        Raises:
            ConfigError: the site cannot be hosted here.
            MessageError: there is no site yet, or it refuses.
        """
        if op == HOST:
            return self._host(Invitation.decode(payload))
        if self.site is None:
            raise MessageError(f"There is no site here yet to answer {op!r}; ask to host one.")
        self._write_down(op, "in", payload)
        answer = self.site.handle(op, payload)
        self._write_down(op, "out", answer)
        if op == "personalise" and self.file is not None:
            keep_models_of(self.folder, self.site.name, alone=True)
        return answer

    def _host(self, invitation: Invitation) -> bytes:
        invitation.check_versions(package_versions(SAME))
        if self.site is not None and self.site.run != invitation.run:
            raise MessageError(
                f"A site of run {self.site.run!r} is hosted here, and cannot be one of run "
                f"{invitation.run!r} too."
            )
        maker = self._simulated(invitation) if self.file is None else self._own(invitation)
        self.folder = Path(maker.folder)
        self.site = maker(invitation.site)
        if self.file is not None:
            write_text(self.folder / CONFIG, maker.settings)
            keep_preprocessing(self.folder, run_of(maker).experiment.data, [invitation.site])
        return json.dumps({"process": os.getpid()}).encode()

    def _simulated(self, asked: Invitation) -> SiteMaker:
        return SiteMaker(
            asked.settings, asked.folder, asked.run, asked.sites, threads=asked.threads or None
        )

    def _own(self, asked: Invitation) -> SiteMaker:
        """The site on the terms of the hospital's file.

        Raises:
            ConfigError: the run names what is not allowed here, or the data are not here.
        """
        mine = HospitalFile.read(self.file or Path())
        values: Any = yaml.safe_load(asked.settings)
        if not isinstance(values, dict):
            raise ConfigError("The coordinator sent settings that are no mapping.")
        settings = mine.lay_over(values)
        mine.check_data(settings)
        if not asked.run.isalnum():
            raise ConfigError(f"A run cannot be called {asked.run!r}; letters and digits only.")
        folder = mine.folder / asked.run
        folder.mkdir(parents=True, exist_ok=True)
        return SiteMaker(yaml.safe_dump(settings), str(folder), asked.run, asked.sites)

    def _write_down(self, op: str, direction: str, payload: bytes) -> None:
        """A row of messages.csv and a line of the log, for a hospital that wants to see."""
        if self.file is None:
            return
        row = (time.strftime("%Y-%m-%dT%H:%M:%S"), op, direction, len(payload), digest_of(payload))
        _log.info("%s %s: %d bytes", direction, op, len(payload))
        file = self.folder / MESSAGES
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerows([COLUMNS] * new)
            writer.writerow(row)
