"""Read a hospital's own file: where its data are, what its machine is, what a run may name."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import AgreementError, ConfigError
from lightning_fl.hospital.sent_settings import (
    check_form,
    check_reach,
    differing,
    merged,
    without,
)
from lightning_fl.run.import_paths import import_paths
from lightning_fl.run.moved_paths import refuse_moved
from lightning_fl.run.site_maker import NOT_OF_SITES
from lightning_fl.site.terms import SiteTerms

_log = logging.getLogger(__name__)

NAME = "lightning_fl.yaml"
"""Name of the file."""
KEYS = {"folder", "settings", "allow"}
"""Keys that the file must have."""
LIMITS: Mapping[str, Any] = {
    "rounds": 200,
    "least_sites": 3,
    "least_cases": 5,
    "decimals": 3,
    "epsilon": None,
    "delta": 1e-5,
    "init": [],
}
"""Keys that the file may have, with what holds where it says nothing."""
NO_PINS = "none"
"""What the file says under `pins` to take part in runs that nothing verifies."""
DATA = (
    *(
        "root",
        "index",
        "partition",
        "batch_size",
        "num_workers",
        "cache_dir",
        "metadata",
        "volumes",
    ),
    "fold_file",
)
OWN = {
    *(f"data.init_args.{name}" for name in DATA),
    "trainer.accelerator",
    "trainer.device",
    "trainer.curves",
    "aggregator.init_args.pins",
    "aggregator.init_args.identities",
}
"""Settings that a hospital decides alone; what the coordinator says of them is dropped."""
UNLESS_ALLOWED: Mapping[str, Any] = {"trainer": {"curves": False}}
"""Holds where the hospital's file says nothing."""
CYCLIC = "lightning_fl.aggregation.CyclicCKKS"
DIGEST = re.compile("[0-9a-f]{64}")
_ALLOWED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(\.\*)?|[A-Za-z_]\w*\.\*")


@dataclass(frozen=True)
class HospitalFile:
    """The file lightning_fl.yaml of a hospital.

    Attributes:
        file: where it is.
        folder: where runs leave private state and models, a folder for each.
        settings: laid over those of a run.
        allow: import paths that the settings of a run may name: a.b.C, or a.b.* for all that is
            defined in a package.
        pins: fingerprints of the hospitals' identities; None to verify nothing.
        identities: folder of this hospital's own.
        limits: of every run; see `LIMITS`.
    """

    file: Path
    folder: Path
    settings: Mapping[str, Any]
    allow: tuple[str, ...]
    pins: Mapping[str, str] | None
    identities: Path
    limits: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "HospitalFile":
        """Read the file; relative paths in it count from its folder.

        Raises:
            ConfigError: it is not there, not what it should be, or names a path that has moved.
        """
        values = _read_keys(file)
        allow, settings = values["allow"], values["settings"]
        if not isinstance(allow, list) or not isinstance(settings, dict):
            raise ConfigError(f"Expected `allow` to be a list and `settings` a mapping in {file}.")
        wrong = [path for path in allow if not _ALLOWED.fullmatch(str(path))]
        if wrong:
            raise ConfigError(
                f"Expected `allow` in {file} to list paths such as a.b.C or a.b.*, but got {wrong}."
            )
        refuse_moved([*allow, *import_paths(settings)], str(file))
        folder = _folder(values, file)
        identities = file.parent / Path(str(values.get("identities", "."))).expanduser()
        pins, limits = _pins(values, file), _limits(values, file)
        return cls(file, folder, settings, tuple(allow), pins, identities, limits)

    @classmethod
    def place(cls, file: Path) -> Path:
        """Return the folder of runs, or that of the file where there is none."""
        try:
            folder = _folder(_read_keys(file), file)
            folder.mkdir(parents=True, exist_ok=True)
        except (ConfigError, OSError):
            return file.parent
        return folder

    @property
    def terms(self) -> SiteTerms:
        """What the site of a run holds of this file."""
        limits = self.limits
        return SiteTerms(
            verified=self.pins is not None,
            least_sites=limits["least_sites"],
            least_cases=limits["least_cases"],
            decimals=limits["decimals"],
            epsilon=limits["epsilon"],
            first_weights=tuple(limits["init"]),
            runs=self.folder,
            delta=limits["delta"],
        )

    def lay_over(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Lay this hospital's settings over those that the coordinator sent.

        Raises:
            ConfigError: they name something that is not allowed here.
        """
        settings = {key: value for key, value in settings.items() if key not in NOT_OF_SITES}
        check_form(settings)
        settings = without(settings, OWN)
        refused = sorted({path for path in import_paths(settings) if not self.allows(path)})
        if refused:
            raise AgreementError(
                f"The run names {', '.join(refused)}, which `allow` in this hospital's {NAME} does "
                "not list. The hospital may read what it does and add it there."
            )
        check_reach(settings)
        return merged(merged(settings, UNLESS_ALLOWED), self.settings)

    def lay_pins(self, settings: dict[str, Any], sites: Sequence[str]) -> dict[str, Any]:
        """Lay this hospital's pins and identity over the settings, and hold its limits.

        Args:
            settings: of the run, with this hospital's laid over.
            sites: all hospitals of the run.

        Raises:
            AgreementError: the run exceeds a limit, or nothing in it could be verified.
            ConfigError: a hospital that trains has no pin.
        """
        data = (settings.get("data") or {}).get("init_args") or {}
        unseen = data.get("unseen") or ()
        training = [site for site in sites if site not in unseen]
        self._check_limits(settings, training)
        if self.pins is None:
            return settings
        aggregator = settings.get("aggregator") or {}
        if aggregator.get("class_path") != CYCLIC:
            raise AgreementError(
                f"The run averages by {aggregator.get('class_path')!r}, of which a hospital cannot "
                f"verify that a mean is the hospitals'. This one takes part by {CYCLIC} alone, or "
                f"with `pins: {NO_PINS}` in its file."
            )
        missing = sorted(site for site in training if site not in self.pins)
        if missing:
            raise ConfigError(
                f"`pins` in {self.file} has no fingerprint of {', '.join(missing)}, which train in "
                "this run. Ask these hospitals for it, by telephone or the like."
            )
        strangers = sorted(set(self.pins) - set(sites))
        if strangers:
            _log.warning("`pins` in %s names %s, not in this run.", self.file, strangers)
        own = {"pins": {s: self.pins[s] for s in training}, "identities": str(self.identities)}
        ring = {"init_args": {**own, "masking": "pairwise"}}
        return merged(settings, {"aggregator": ring})

    def _check_limits(self, settings: Mapping[str, Any], training: Sequence[str]) -> None:
        """Refuse more rounds, or fewer hospitals in a sum, than this hospital accepts."""
        rounds, most = settings.get("rounds", 10), self.limits["rounds"]
        if type(rounds) is not int or rounds > most:
            raise AgreementError(
                f"The run has {rounds!r} rounds, but this hospital takes part in at most {most} "
                "(`rounds` in its file)."
            )
        least, drawn = self.limits["least_sites"], settings.get("sites_per_round")
        summed = min(len(training), drawn) if type(drawn) is int else len(training)
        if summed < least:
            raise AgreementError(
                f"The run sums the updates of {summed} hospitals, but this one takes part in sums "
                f"of at least {least} (`least_sites` in its file)."
            )

    def allows(self, path: str) -> bool:
        """Say whether a run may name this import path."""
        packages = (entry.removesuffix("*") for entry in self.allow if entry.endswith(".*"))
        return path in self.allow or path.startswith(tuple(packages))

    def check_word(self, resolved: Mapping[str, Any]) -> None:
        """Make sure that this hospital's settings count, after the parser has read them.

        Raises:
            ConfigError: one has another value.
        """
        changed = sorted(differing(self.settings, resolved))
        if changed:
            raise ConfigError(
                f"The settings of {self.file} do not count in this run: {', '.join(changed)}. The "
                "run is refused; tell the coordinator."
            )

    def check_data(self, settings: Mapping[str, Any]) -> None:
        """Refuse data that are not here, before anything tries to read them.

        Raises:
            ConfigError: the folder is not there.
        """
        data = settings.get("data") or {}
        root = (data.get("init_args") or {}).get("root")
        if root is not None and not Path(str(root)).expanduser().is_dir():
            raise ConfigError(
                f"There is no data folder {str(root)!r} here. Correct `settings: data: init_args: "
                f"root` in {self.file}."
            )


def _folder(values: Mapping[str, Any], file: Path) -> Path:
    return file.parent / Path(str(values["folder"])).expanduser()


def _pins(values: Mapping[str, Any], file: Path) -> Mapping[str, str] | None:
    """Return the pins that the file gives; None where it says that there shall be none."""
    pins = values.get("pins")
    if pins == NO_PINS:
        return None
    if not isinstance(pins, dict) or not pins:
        raise ConfigError(
            f"{file} has no `pins`. Write the fingerprint of every hospital's identity there, each "
            "told by that hospital and not by the coordinator; see docs/deploy.md. With `pins: "
            f"{NO_PINS}` a run is hosted that nothing verifies."
        )
    wrong = [site for site, pin in pins.items() if not DIGEST.fullmatch(str(pin))]
    if wrong:
        raise ConfigError(f"The pins of {wrong} in {file} are no fingerprints of 64 hex digits.")
    return {str(site): str(pin) for site, pin in pins.items()}


def _limits(values: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the limits that the file sets, and the usual ones."""
    limits = {**LIMITS, **{key: values[key] for key in LIMITS if key in values}}
    for key in ("rounds", "least_sites", "least_cases"):
        if type(limits[key]) is not int or limits[key] < 1:
            raise ConfigError(
                f"Expected `{key}` in {file} to be at least 1, but got {limits[key]}."
            )
    decimals, epsilon = limits["decimals"], limits["epsilon"]
    if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= 6):
        raise ConfigError(f"Expected `decimals` in {file} from 0 to 6 or null, but got {decimals}.")
    if epsilon is not None and (type(epsilon) not in (int, float) or not epsilon > 0):
        raise ConfigError(f"Expected `epsilon` in {file} to be positive, but got {epsilon}.")
    delta = limits["delta"]
    if type(delta) is not float or not 0 < delta < 1:
        raise ConfigError(
            f"Expected `delta` in {file} to lie between 0 and 1, e.g. 1.0e-5, but got {delta!r}."
        )
    if not isinstance(limits["init"], list) or not all(
        DIGEST.fullmatch(str(digest)) for digest in limits["init"]
    ):
        raise ConfigError(f"Expected `init` in {file} to list digests of 64 hex digits.")
    return limits


def _read_keys(file: Path) -> dict[str, Any]:
    """Read the file as a mapping with the keys that it must have."""
    if not file.is_file():
        raise ConfigError(
            f"There is no {file}. A hospital says in it where its data are and what a run may "
            "name; docs/deploy.md has an example."
        )
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read, or is no YAML: {error}") from error
    others = {"pins", "identities", *LIMITS}
    if not isinstance(values, dict) or not KEYS <= set(values) <= KEYS | others:
        keys = sorted(values) if isinstance(values, dict) else values
        raise ConfigError(
            f"Expected the keys {sorted(KEYS)} and perhaps {sorted(others)} in {file}, but got "
            f"{keys}."
        )
    return values
