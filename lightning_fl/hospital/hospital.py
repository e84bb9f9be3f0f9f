"""Host a site in a process of its own, on the terms of its hospital."""

import csv
import hashlib
import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.engines.hosting import HOST, SAME, Invitation
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from lightning_fl.hospital.file import NAME, HospitalFile
from lightning_fl.hospital.import_policy import enforce
from lightning_fl.hospital.sent_settings import read_sent
from lightning_fl.predict.kept_models import keep_models_of, keep_preprocessing
from lightning_fl.results.case_tables import keep_cases
from lightning_fl.run.config import changed_settings, resolve
from lightning_fl.run.import_paths import import_paths
from lightning_fl.run.site_maker import NOT_OF_SITES, SiteMaker, blueprint_of
from lightning_fl.run_files import CONFIG
from lightning_fl.site.site import Site
from lightning_fl.wire.messages import MAGIC, MessageError, digest_of
from lightning_fl.wire.versions import package_versions

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
        folder: of the hospital's file; None for a simulated site.
        name: of the hospital, by its certificate; a site of another name is refused. "" for any.
    """

    def __init__(self, folder: Path | None = None, name: str = "") -> None:
        self.file = None if folder is None else folder / NAME
        self.name = name
        self.site: Site | None = None
        self.folder = Path()

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        Raises:
            ConfigError: the site cannot be hosted here.
            MessageError: there is no site yet, or it refuses.
        """
        if op == HOST:
            return self._host(payload)
        if self.site is None:
            raise MessageError(f"There is no site here yet to answer {op!r}; ask to host one.")
        self._write_down(op, "in", payload)
        answer = self.site.handle(op, payload)
        self._write_down(op, "out", answer)
        if op == "personalise" and self.file is not None:
            keep_models_of(self.folder, self.site.name, alone=True)
            keep_cases(self.folder, [self.site.name])
        return answer

    def _host(self, payload: bytes) -> bytes:
        invitation = Invitation.decode(payload)
        invitation.check_versions(package_versions(SAME))
        if self.site is not None and self.site.setup.run != invitation.run:
            raise MessageError(
                f"A site of run {self.site.setup.run!r} is hosted here, and cannot be one of run "
                f"{invitation.run!r} too."
            )
        if self.name not in ("", invitation.site):
            raise ConfigError(f"This is {self.name!r}, and cannot host site {invitation.site!r}.")
        maker = _simulated(invitation) if self.file is None else _on_terms(self.file, invitation)
        self.site = maker(invitation.site)
        self.folder = Path(maker.folder)
        if self.file is not None:
            write_text(self.folder / CONFIG, maker.settings)
            keep_preprocessing(self.folder, blueprint_of(maker).experiment.data, [invitation.site])
            self._write_down(HOST, "in", payload)
        return json.dumps({"process": os.getpid()}).encode()

    def _write_down(self, op: str, direction: str, payload: bytes) -> None:
        """Add a row to messages.csv and a line to the log, so that a hospital sees what leaves."""
        if self.file is None:
            return
        framed = payload.startswith(MAGIC)
        digest = digest_of(payload) if framed else hashlib.sha256(payload).hexdigest()
        row = (time.strftime("%Y-%m-%dT%H:%M:%S"), op, direction, len(payload), digest)
        _log.info("%s %r: %d bytes", direction, op, len(payload))
        file = self.folder / MESSAGES
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerows([COLUMNS] * new)
            writer.writerow(row)


def _simulated(invitation: Invitation) -> SiteMaker:
    return SiteMaker(
        invitation.settings, invitation.folder, invitation.run, invitation.sites, invitation.threads
    )


def _on_terms(file: Path, invitation: Invitation) -> SiteMaker:
    """Accept a run on the terms of the hospital's file."""
    terms = HospitalFile.read(file)
    values = read_sent(invitation.settings)
    if not re.fullmatch(r"[0-9A-Za-z]+", invitation.run):  # it names a folder here
        raise ConfigError(f"A run cannot be called {invitation.run!r}; letters and digits only.")
    settings = terms.lay_over(values)
    terms.check_data(settings)
    enforce([*terms.allow, *import_paths(terms.settings)])  # before anything is imported
    resolved = resolve(["--config", yaml.safe_dump(settings | NOT_OF_SITES)])
    terms.check_word(resolved)
    folder = terms.folder / invitation.run
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # models and private state are for the hospital's own account alone
    _check_same(folder / CONFIG, resolved)
    return SiteMaker(yaml.safe_dump(resolved), str(folder), invitation.run, invitation.sites)


def _check_same(config: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run under other settings than it began with here."""
    if not config.exists():
        return
    changed = changed_settings(resolve(["--config", str(config)]), settings)
    if changed:
        raise ConfigError(
            f"The run goes on here with other settings than it began with: {', '.join(changed)} "
            f"differ from {config}."
        )
