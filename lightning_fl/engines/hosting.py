"""What a coordinator sends to a process that shall host a site, before the site is there."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning_fl.errors import AgreementError, ConfigError
from lightning_fl.wire.versions import package_versions

HOST = "host"
"""The operation; its payload is an `Invitation`, its answer holds the process's number as JSON."""
SAME = ("lightning-fl", "torch", "tenseal", "segmentation-models-pytorch", "monai")
"""Packages that must have one version everywhere, or networks and rings could differ."""
CLOCKS_DIFFER = 300.0
"""Seconds by which the clocks of a hospital and of the coordinator may differ."""


@dataclass(frozen=True)
class Invitation:
    """Asks a process to host a site.

    Attributes:
        settings: the text of config.yaml.
        sites: all hospitals.
        folder: of the run, where the process is on the coordinator's machine; "" elsewhere.
        threads: of torch, where the process is on the coordinator's machine; else None.
        versions: of the coordinator's packages.
        time: of the coordinator's clock, in seconds since 1970.
    """

    site: str
    settings: str
    run: str
    sites: tuple[str, ...]
    folder: str = ""
    threads: int | None = None
    versions: Mapping[str, str] = field(default_factory=lambda: package_versions(SAME))
    time: float = field(default_factory=time.time)

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
            AgreementError: names both versions of the first package that differs.
        """
        for package in SAME:
            version, expected = installed.get(package, ""), self.versions.get(package, "")
            if version.partition("+")[0] != expected.partition("+")[0]:  # 2.15.0+cpu is 2.15.0
                raise AgreementError(
                    f"Site {self.site!r} has {package} {version or 'not at all'}, but the "
                    f"coordinator has {expected or 'none'}. Install the same version on both."
                )

    def check_clock(self, now: float) -> None:
        """Refuse a clock that is far from the coordinator's: the records of both would not match.

        Raises:
            AgreementError: names both times.
        """
        if type(self.time) not in (int, float) or not abs(now - self.time) <= CLOCKS_DIFFER:
            raise AgreementError(
                f"The clock of site {self.site!r} is at {_clock(now)}, but the coordinator's at "
                f"{_clock(self.time)}. Set both to the time; records are compared by it."
            )


def _clock(seconds: Any) -> str:
    """Return a time as a text; as it came where it is none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (TypeError, ValueError, OverflowError, OSError):
        return repr(seconds)[:40]
