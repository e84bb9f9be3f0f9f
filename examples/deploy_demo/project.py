"""Who takes part: the project file, and the kits that NVFlare's own command makes from it."""

import shutil
import socket
import sys
from collections.abc import Sequence
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

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The participants of a type: server, client or admin."""
        return [one for one in self.values["participants"] if one["type"] == kind]

    @property
    def sites(self) -> list[str]:
        """Names of the hospitals."""
        return [one["name"] for one in self.of_type("client")]

    @property
    def server(self) -> dict[str, Any]:
        """The server."""
        return self.of_type("server")[0]

    @property
    def user(self) -> str:
        """Name of the first user."""
        return str(self.of_type("admin")[0]["name"])

    def with_ports(self, sites: int, admin: int) -> "Project":
        """The same project with other ports of the server."""
        ports = {"fed_learn_port": sites, "admin_port": admin}
        parties = [
            one | ports if one["type"] == "server" else one for one in self.values["participants"]
        ]
        return Project(self.values | {"participants": parties})


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on; all are held until the last is found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def provision(project: Project, party: Party, processes: Processes) -> dict[str, Path]:
    """Make certificates and startup kits.

    Args:
        project: who takes part.
        party: who provisions, in an empty folder that keeps the root's key.
        processes: keeps the command.

    Returns:
        The folder of each kit, by the name of its holder.

    Raises:
        ConfigError: NVFlare's command failed.
    """
    file, workspace = party.folder / "project.yml", party.folder / "workspace"
    write_text(file, yaml.safe_dump(project.values, sort_keys=False))
    nvflare = [sys.executable, "-m", "nvflare.cli"]
    status = processes.run(
        party, [*nvflare, "provision", "-p", file.name, "-w", workspace.name], LIMIT
    )
    made = workspace / str(project.values["name"]) / "prod_00"
    names = [str(one["name"]) for one in project.values["participants"]]
    kits = {name: made / name for name in names if (made / name / "startup").is_dir()}
    if status != 0 or len(kits) < len(names):
        raise ConfigError(
            f"`nvflare provision` ended with status {status}. The end of {party.log}:\n"
            f"{last_lines(party.log)}"
        )
    return kits


def hand_out(kit: Path, to: Path) -> Path:
    """Move a kit to its holder, since its private key belongs there and nowhere else."""
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(kit, to))


def script(kit: Path) -> Sequence[str]:
    """The command that starts a kit, and not again when it has ended."""
    return ["bash", str(kit / "startup" / "sub_start.sh"), "--once"]
