"""Read a hospital's own file: where its data are, what its machine is, what a run may name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_fl.errors import ConfigError
from lightning_fl.hospital.sent_settings import check_form, differing, merged, without
from lightning_fl.run.import_paths import import_paths
from lightning_fl.run.moved_paths import refuse_moved
from lightning_fl.run.site_maker import NOT_OF_SITES

NAME = "lightning_fl.yaml"
"""Name of the file."""
TEMPLATE = """\
# What this hospital says for itself. No coordinator can change it.

# Where runs leave this hospital's private state and its models, a folder for each run; relative
# to this file.
folder: ../runs

# Laid over the settings of a run. The data's place, the batch size and the device are set here
# alone; what a coordinator says of them is dropped.
settings:
  data:
    init_args:
      ROOT
      batch_size: 8
  trainer:
    accelerator: auto
    curves: false # true: the coordinator sees the loss and the speed of each round's training
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
DATA = ("root", "batch_size", "num_workers", "cache_dir", "metadata", "volumes", "fold_file")
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
        folder = file.parent / Path(str(values["folder"])).expanduser()
        return cls(file, folder, settings, tuple(allow))

    def lay_over(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Lay this hospital's settings over those that the coordinator sent.

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
        return merged(merged(without(settings, OWN), UNLESS_ALLOWED), self.settings)

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


def _read_keys(file: Path) -> dict[str, Any]:
    """Read the file as a mapping with the keys that it must have."""
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
        keys = sorted(values) if isinstance(values, dict) else values
        raise ConfigError(f"Expected the keys {sorted(KEYS)} in {file}, but got {keys}.")
    return values
