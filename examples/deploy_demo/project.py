"""Who takes part: the project file, and the kits that NVFlare's own command makes from it."""

import shutil
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from examples.deploy_demo.processes import Party, Processes, last_lines
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text

LIMIT = 120.0
"""Seconds that making the certificates may take; it takes two or three."""


@dataclass(frozen=True)
class Project:
    """A project file, read.

    Attributes:
        values: what it holds.
    """

    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Project":
        """Read a project file."""
        return cls(yaml.safe_load(file.read_text(encoding="utf-8")))

    @property
    def sites(self) -> list[str]:
        """Names of the hospitals."""
        return [client["name"] for client in self._of_type("client")]

    @property
    def server(self) -> dict[str, Any]:
        """The server."""
        return self._of_type("server")[0]

    @property
    def user(self) -> str:
        """Name of the first user."""
        return str(self._of_type("admin")[0]["name"])

    def with_ports(self, sites: int, admin: int) -> "Project":
        """Return the project with other ports of the server."""
        ports = {"fed_learn_port": sites, "admin_port": admin}
        parties = [
            party | (ports if party["type"] == "server" else {})
            for party in self.values["participants"]
        ]
        return Project(self.values | {"participants": parties})

    def _of_type(self, kind: str) -> list[dict[str, Any]]:
        return [party for party in self.values["participants"] if party["type"] == kind]


def free_ports(count: int) -> list[int]:
    """Find ports of the loopback that nothing listens on; all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("localhost", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def provision(project: Project, party: Party, processes: Processes) -> dict[str, Path]:
    """Make certificates and startup kits; return the folder of each kit by the name of its holder.

    The party's folder is empty. It keeps the root's key.

    Raises:
        ConfigError: NVFlare's command failed.
    """
    file, workspace = party.folder / "project.yml", party.folder / "workspace"
    write_text(file, yaml.safe_dump(project.values, sort_keys=False))
    command = [sys.executable, "-m", "nvflare.cli", "provision"]
    status = processes.run(party, [*command, "-p", file.name, "-w", workspace.name], LIMIT)
    made = workspace / str(project.values["name"]) / "prod_00"
    names = [str(participant["name"]) for participant in project.values["participants"]]
    kits = {name: made / name for name in names if (made / name / "startup").is_dir()}
    if status != 0 or len(kits) < len(names):
        raise ConfigError(
            f"`nvflare provision` ended with status {status}. The end of {party.log}:\n"
            f"{last_lines(party.log)}"
        )
    return kits


def hand_out(kit: Path, to: Path) -> Path:
    """Move a kit or data to their holder, since they belong there and nowhere else."""
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(kit, to))
