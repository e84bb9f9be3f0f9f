"""A hospital's own file: where its data are, what its machine is, and what it lets a run name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.site_maker import NOT_OF_SITES

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

# Classes and functions that the settings of a run may name. A run that names another is refused.
allow:
  - lightning_fl.aggregation.CyclicCKKS  # and not Plain, to which updates go in the clear
  - lightning_fl.algorithms.*
  - lightning_fl.differential_privacy.*
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
    ("trainer", "accelerator"),
    ("trainer", "device"),
    ("aggregator", "init_args", "pins"),
    ("aggregator", "init_args", "identities"),
)
"""Settings that a hospital says for itself; what the coordinator says of them is dropped."""
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class HospitalFile:
    """The file lightning_fl.yaml of a hospital.

    Attributes:
        file: where it is.
        folder: where runs leave private state and models, a folder for each.
        settings: laid over those of a run.
        allow: import paths that the settings of a run may name, with * for any part.
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
        refused = sorted({path for path in import_paths(settings) if not self.allows(path)})
        if refused:
            raise ConfigError(
                f"The run names {', '.join(refused)}, which `allow` in {self.file} does not list. "
                "Read what it does; if you agree, add it there."
            )
        return merged(without(settings, OWN), self.settings)

    def allows(self, path: str) -> bool:
        """Whether a run may name this import path."""
        return any(fnmatchcase(path, pattern) for pattern in self.allow)

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


def import_paths(values: Any) -> Iterator[str]:
    """Whatever in settings could make Python import and call something.

    That is every `class_path`, and every text that looks like an import path, since a setting may
    want a function.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key == "class_path":
                yield str(value)
            else:
                yield from import_paths(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from import_paths(value)
    elif isinstance(values, str) and _PATH.fullmatch(values.strip()):
        yield values.strip()


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
