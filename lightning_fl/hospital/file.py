"""A hospital's own file: where its data are, what its machine is, and what it lets a run name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.import_paths import import_paths, nested
from lightning_fl.run.site_maker import NOT_OF_SITES
from lightning_fl.training.task import SETTINGS

NAME = "lightning_fl.yaml"
"""Of the file."""
TEMPLATE = """\
# What this hospital says for itself. No coordinator can change it.

# Where runs leave this hospital's private state and its models, a folder for each run; relative
# to this file.
folder: ../runs

# Laid over the settings of a run. The data's place and batch size and the device are said here
# alone; what a coordinator says of them is dropped.
settings:
  data:
    init_args:
      ROOT
      batch_size: 8
  trainer:
    accelerator: auto
  # Of the secure ring: others cannot see this hospital's updates. Add `identities` and `pins`.
  aggregator:
    init_args:
      masking: pairwise
      allow_two_sites: false

# Classes that the settings of a run may name: one, or with .* all that a package defines. A run
# that names another is refused. Some nets can download weights; list those you use one by one.
allow:
  - lightning_fl.aggregation.CyclicCKKS  # and not Plain, to which updates go in the clear
  - lightning_fl.algorithms.*
  - lightning_fl.privacy.*
  - lightning_fl.personalisation.*
  - models.*
  - datamodules.*
  - segmentation_models_pytorch.*
  - monai.networks.nets.*
  - torch.optim.*
  - torchvision.transforms.v2.*
"""
KEYS = {"folder", "settings", "allow"}
OWN = (
    ("data", "init_args", "root"),
    ("data", "init_args", "batch_size"),
    ("data", "init_args", "num_workers"),
    ("data", "init_args", "cache_dir"),
    ("data", "init_args", "metadata"),
    ("data", "init_args", "volumes"),
    ("data", "init_args", "fold_file"),
    ("trainer", "accelerator"),
    ("trainer", "device"),
    ("aggregator", "init_args", "pins"),
    ("aggregator", "init_args", "identities"),
)
"""Settings that a hospital says for itself; what the coordinator says of them is dropped."""
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
    """

    file: Path
    folder: Path
    settings: Mapping[str, Any]
    allow: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> "HospitalFile":
        """Read the file; relative paths in it count from its folder.

        Raises:
            ConfigError: it is not there, or not what it should be.
        """
        if not file.is_file():
            raise ConfigError(
                f"There is no {file}. A hospital says in it where its data are and what a run may "
                "name; docs/deploy.md has an example."
            )
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{file} is no YAML: {error}") from error
        if not isinstance(values, dict) or set(values) != KEYS:
            found = sorted(values) if isinstance(values, dict) else values
            raise ConfigError(f"Expected the keys {sorted(KEYS)} in {file}, but got {found}.")
        if not isinstance(values["allow"], list) or not isinstance(values["settings"], dict):
            raise ConfigError(f"Expected `allow` to be a list and `settings` a mapping in {file}.")
        wrong = [path for path in values["allow"] if not _ALLOWED.fullmatch(str(path))]
        if wrong:
            raise ConfigError(
                f"Expected `allow` in {file} to list paths such as a.b.C or a.b.*, but got {wrong}."
            )
        folder = file.parent / Path(str(values["folder"])).expanduser()
        return cls(file, folder, values["settings"], tuple(str(p) for p in values["allow"]))

    def lay_over(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A run's settings as they count here.

        Args:
            settings: as the coordinator sent them.

        Raises:
            ConfigError: they name something that is not allowed here.
        """
        settings = {key: value for key, value in settings.items() if key not in NOT_OF_SITES}
        check_form(settings)
        refused = sorted({path for path in import_paths(settings) if not self.allows(path)})
        if refused:
            raise ConfigError(
                f"The run names {', '.join(refused)}, which `allow` in {self.file} does not list. "
                "Read what it does; if you agree, add it there."
            )
        return merged(without(settings, OWN), self.settings)

    def allows(self, path: str) -> bool:
        """Whether a run may name this import path."""
        packages = (entry.removesuffix("*") for entry in self.allow if entry.endswith(".*"))
        return path in self.allow or path.startswith(tuple(packages))

    def check_word(self, resolved: Mapping[str, Any]) -> None:
        """Make sure of what `lay_over` is for: that this hospital's settings are those that count.

        Args:
            resolved: the settings as the parser has understood them.

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

        Args:
            settings: as they count here.

        Raises:
            ConfigError: the folder is not there or not named.
        """
        data = settings.get("data") or {}
        root = (data.get("init_args") or {}).get("root")
        if root is not None and not Path(str(root)).expanduser().is_dir():
            raise ConfigError(
                f"There is no data folder {str(root)!r} here. Correct `settings: data: init_args: "
                f"root` in {self.file}."
            )


def check_form(settings: Mapping[str, Any]) -> None:
    """Refuse whatever could mean something else to the parser than it looks like here.

    Raises:
        ConfigError: names the key or the text.
    """
    known = {*Experiment.__dataclass_fields__, *SETTINGS}
    unknown = sorted(str(key) for key in settings if key not in known)
    if unknown:
        raise ConfigError(f"The run has settings that are none: {', '.join(unknown)}.")
    for value in nested(settings):
        if isinstance(value, Mapping):
            _check_keys(value)
        elif isinstance(value, str) and _is_structure(value):
            raise ConfigError(
                f"The run has the text {value[:80]!r}, in which settings are hidden. Write them "
                "out."
            )


def _check_keys(values: Mapping[Any, Any]) -> None:
    for key in values:
        if not isinstance(key, str) or "." in key or key.endswith("+") or key == "dict_kwargs":
            raise ConfigError(
                f"The run has the key {key!r}, by which settings could be changed past this "
                "hospital's own. Write settings as nested mappings, without dict_kwargs."
            )


def _is_structure(text: str) -> bool:
    """Whether a text is YAML for a mapping or a list, which the parser would look into."""
    try:
        return isinstance(yaml.safe_load(text), dict | list)
    except yaml.YAMLError:
        return False


def differing(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Keys, written a.b.c, whose value is another one in other settings."""
    for key, value in wanted.items():
        other = found.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from (f"{key}.{inner}" for inner in differing(value, other))
        elif str(value) != str(other):
            yield key


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others laid over them.

    Mappings are merged, unless they name different classes; anything else is replaced.
    """
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return dict(above)
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def without(values: Mapping[str, Any], paths: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """Settings without those at some paths."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        inner = tuple(path[1:] for path in paths if path[0] == key)
        if () in inner:
            continue
        deeper = isinstance(value, Mapping) and inner
        result[key] = without(value, inner) if deeper else value
    return result
