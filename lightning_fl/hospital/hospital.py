"""Host a site in a process of its own, on the terms of its hospital."""

import json
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.data.summary import describe_data
from lightning_fl.engines.hosting import HOST, SAME, Invitation
from lightning_fl.errors import AgreementError, ConfigError, HospitalError, NonFiniteError
from lightning_fl.files import write_text
from lightning_fl.hospital.file import NAME, HospitalFile
from lightning_fl.hospital.import_policy import enforce
from lightning_fl.hospital.offline import go_offline
from lightning_fl.hospital.records import HospitalRecords
from lightning_fl.hospital.sent_settings import read_sent
from lightning_fl.predict.kept_models import keep_models_of, keep_preprocessing
from lightning_fl.results.case_tables import keep_cases
from lightning_fl.results.contact_sheet import write_contact_sheet
from lightning_fl.run.config import changed_settings, resolve
from lightning_fl.run.import_paths import import_paths
from lightning_fl.run.site_maker import NOT_OF_SITES, SiteMaker, blueprint_of
from lightning_fl.run_files import CONFIG
from lightning_fl.site.site import Site
from lightning_fl.wire.messages import MessageError
from lightning_fl.wire.versions import package_versions

_log = logging.getLogger(__name__)
DATA = "data.txt"
"""What was read of a hospital's data, in the folder of a run."""
PLAIN = (bool, int, float, str)
"""Types of settings whose values a refusal may name."""


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
        self.records: HospitalRecords | None = None

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        At a hospital the text of an error stays: it can name files, and so patients. The kind
        travels, with a number that the hospital finds in its errors.log.

        Raises:
            AgreementError: both sides differ in what each may know of the other.
            NonFiniteError: training has diverged.
            HospitalError: anything else that a hospital's site raised.
        """
        if self.file is None:
            return self._host(payload) if op == HOST else self._ask_site(op, payload)
        os.umask(0o077)  # files are for the hospital's own account alone
        try:
            return self._on_record(op, payload)
        except Exception as error:
            kept = f"{type(error).__name__}, {self._keep(self.file, op, payload, error)}"
            if isinstance(error, AgreementError):
                raise
            if isinstance(error, NonFiniteError):
                raise NonFiniteError(kept) from None
            raise HospitalError(kept) from None

    def _keep(self, file: Path, op: str, payload: bytes, error: Exception) -> str:
        """Write an error down, and say where; whatever fails in that stays here too."""
        try:
            records = self.records or HospitalRecords(HospitalFile.place(file))
            return f"number {records.error(op, payload, error)} in the errors.log of this hospital"
        except (OSError, ValueError):
            _log.exception("an error in %r could not be written down: %s", op, error)
            return "which this hospital could not write down"

    def _on_record(self, op: str, payload: bytes) -> bytes:
        """Answer one operation, with both messages written down."""
        if op == HOST:
            return self._host(payload)
        if self.records is not None:
            self.records.message(op, "in", payload)
        if self.site is not None and op != "describe" and not self.site.ledger.has_described:
            raise MessageError(
                f"Site {self.site.name!r} has not checked its data, settings and budget for this "
                f"run, so it does not answer {op!r}. Ask it to `describe` itself first."
            )
        answer = self._ask_site(op, payload)
        if op == "describe" and self.site is not None:
            self._show_data(self.site)
        if self.records is not None:
            self.records.message(op, "out", answer)
        if op == "personalise" and self.site is not None:
            keep_models_of(self.folder, self.site.name, alone=True)
            keep_cases(self.folder, [self.site.name])
        return answer

    def _show_data(self, site: Site) -> None:
        """Say and draw once a run what was read here; neither leaves the hospital."""
        file, data, seed = self.folder / DATA, site.state.data, site.setup.seed
        if file.exists() or site.name not in data.site_names():
            return
        lines = [*describe_data(data, site.name, seed)]
        for line in lines:
            _log.info("%s", line)
        write_contact_sheet(self.folder, data, [site.name], seed)
        write_text(file, "\n".join(lines) + "\n")

    def _ask_site(self, op: str, payload: bytes) -> bytes:
        if self.site is None:
            raise MessageError(f"There is no site here yet to answer {op!r}; ask to host one.")
        return self.site.handle(op, payload)

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
        if self.file is None:
            maker = _simulated(invitation)
        else:
            invitation.check_clock(time.time())
            go_offline()
            maker = _on_terms(self.file, invitation)
        self.site = maker(invitation.site)
        self.folder = Path(maker.folder)
        if self.file is not None:
            write_text(self.folder / CONFIG, maker.settings)
            experiment = blueprint_of(maker).experiment
            keep_preprocessing(self.folder, experiment.data, [invitation.site], experiment.seed)
            self.records = HospitalRecords(self.folder)
            self.records.message(HOST, "in", payload)
        return json.dumps({"process": os.getpid()}).encode()


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
    settings = terms.lay_pins(settings, invitation.sites)
    terms.check_data(settings)
    enforce([*terms.allow, *import_paths(terms.settings)])  # before anything is imported
    resolved = resolve(["--config", yaml.safe_dump(settings | NOT_OF_SITES)])
    terms.check_word(resolved)
    folder = terms.folder / invitation.run
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # models and private state are for the hospital's own account alone
    shared = {key: value for key, value in values.items() if key not in terms.settings}
    _check_same(folder / CONFIG, resolved, shared)
    return SiteMaker(
        yaml.safe_dump(resolved),
        str(folder),
        invitation.run,
        invitation.sites,
        terms=terms.terms,
    )


def _check_same(config: Path, settings: dict[str, Any], sent: dict[str, Any]) -> None:
    """Refuse to go on with a run under other settings than it began with here.

    `sent` are those that the coordinator alone decides.
    """
    if not config.exists():
        return
    before = resolve(["--config", str(config)])
    changed = changed_settings(before, settings)
    if changed:
        # Values that are mappings stay: this hospital's own paths and pins are laid into them.
        named = [
            f"{key} from {before.get(key)!r} to {sent[key]!r}"
            if type(sent.get(key)) in PLAIN and type(before.get(key)) in PLAIN
            else key
            for key in changed
        ]
        raise AgreementError(
            "The run goes on here with other settings than it began with: "
            f"{'; '.join(named)}. Start a new run."
        )
