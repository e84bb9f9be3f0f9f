"""What a coordinator sends to a process that shall host a site, before the site is there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_fl.errors import ConfigError
from lightning_fl.wire.versions import package_versions

HOST = "host"
"""The operation; its payload is an `Invitation`, its answer holds the process's number as JSON."""
SAME = ("lightning-fl", "torch", "tenseal", "segmentation-models-pytorch", "monai")
"""Packages that must have one version everywhere, or networks and rings could differ."""


@dataclass(frozen=True)
class Invitation:
    """Asks a process to host a site.

    Attributes:
        settings: the text of config.yaml.
        sites: all hospitals.
        folder: of the run, where the process is on the coordinator's machine; "" elsewhere.
        threads: of torch, where the process is on the coordinator's machine; else None.
        versions: of the coordinator's packages.
    """

    site: str
    settings: str
    run: str
    sites: tuple[str, ...]
    folder: str = ""
    threads: int | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions(SAME))

    def encode(self) -> bytes:
        """Encode as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, payload: bytes) -> "Invitation":
        """Decode what `encode` made.

        Raises:
            ConfigError: these bytes are no invitation.
        """
        try:
            values: dict[str, Any] = json.loads(payload)
            return cls(**(values | {"sites": tuple(values["sites"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"An invitation cannot be read: {error!r}.") from error

    def check_versions(self, installed: Mapping[str, str]) -> None:
        """Refuse other installed versions than the coordinator's.

        Raises:
            ConfigError: names both versions of the first package that differs.
        """
        for package in SAME:
            version, expected = installed.get(package, ""), self.versions.get(package, "")
            if version.partition("+")[0] != expected.partition("+")[0]:  # 2.15.0+cpu is 2.15.0
                raise ConfigError(
                    f"Site {self.site!r} has {package} {version or 'not at all'}, but the "
                    f"coordinator has {expected or 'none'}. Install the same version on both."
                )
