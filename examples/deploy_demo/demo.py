"""The demo from the first folder to the last message."""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datamodules.examples import claim
from datamodules.examples.images import IMAGES, make_apart
from examples.deploy_demo import kits
from examples.deploy_demo.places import CONFIG, PROJECT, TRAIN, Places, environment
from examples.deploy_demo.processes import Party, Processes
from examples.deploy_demo.project import Project, free_ports, hand_out, provision
from lightning_fl.errors import ConfigError
from lightning_fl.hospital.prepare_kit import prepare

START = 120
"""Seconds for the server to answer and for the hospitals to connect."""
SERVER = "server"


@dataclass
class Demo:
    """A federation of hospitals on this machine, each in processes and a folder of its own.

    Attributes:
        places: folders; the outermost is new or empty.
        processes: keeps what is started.
        say: hears of each step.
        project: who takes part.
    """

    places: Places
    processes: Processes
    say: Callable[[str], None]
    project: Project = field(
        default_factory=lambda: Project.read(PROJECT).with_ports(*free_ports(2))
    )

    def run(self, settings: Sequence[str], limit: float) -> int:
        """Make everything, start everybody, train, and return the exit status of train.py.

        Args:
            settings: further arguments of train.py.
            limit: seconds that the training may take.

        Raises:
            ConfigError: a step failed.
        """
        check_installed()
        claim(self.places.folder)
        self.places.coordinator.mkdir()
        self.places.provisioner.mkdir(mode=0o700)  # NVFlare lets everybody read the root's key
        self.make_data()
        self.hand_out_kits()
        self.start()
        self.say("train.py --config configs/deploy_demo.yaml, with the coordinator's kit")
        return self.processes.run(self.party("train.py"), self.command(settings), limit)

    def make_data(self) -> None:
        """Make example images; each hospital gets its own and nothing else."""
        sites = self.project.sites
        self.say(f"Images of {len(sites)} synthetic hospitals")
        made = self.places.folder / "made"
        for _ in make_apart(made, replace(IMAGES.amount, sites=len(sites))):
            pass
        for site in sites:
            hand_out(made / site, self.places.data(site))
        made.rmdir()

    def hand_out_kits(self) -> None:
        """Provision, give every party its kit, and let each prepare its own."""
        self.say("Certificates and startup kits, by nvflare provision")
        made = provision(self.project, self.party("nvflare provision"), self.processes)
        prepare(hand_out(made[self.project.server["name"]], self.places.coordinator / SERVER))
        hand_out(made[self.project.user], self.user_kit)
        pins = {}
        for site in self.project.sites:
            hand_out(made[site], self.places.kit(site))
            pins[site] = kits.settle(self.places.hospital(site), self.places.data(site))
        for site in self.project.sites:
            kits.pin(self.places.hospital(site), pins)

    def start(self) -> None:
        """Start the server and the hospitals."""
        port = self.project.server["fed_learn_port"]
        names = ", ".join(self.project.sites)
        self.say(f"A server on port {port} of localhost, and the hospitals {names}")
        folders = {site: self.places.kit(site) for site in self.project.sites}
        for name, kit in {SERVER: self.places.coordinator / SERVER, **folders}.items():
            # --once: the script does not start the kit again when it has ended
            script = ["bash", str(kit / "startup" / "sub_start.sh"), "--once"]
            self.processes.start(self.party(name), script)

    def command(self, settings: Sequence[str]) -> list[str]:
        """Return the command line of the coordinator, with further arguments of train.py."""
        engine = {
            "kit": str(self.user_kit),
            "sites": str(self.project.sites),
            "start_timeout": str(START),
        }
        chosen = [a for k, v in engine.items() for a in (f"--engine.init_args.{k}", v)]
        run = ["--output", str(self.places.run)]
        return [sys.executable, str(TRAIN), "--config", str(CONFIG), *chosen, *run, *settings]

    def party(self, name: str) -> Party:
        """Return how a party starts its processes: where, in what environment, with what log."""
        if name in self.project.sites:
            folder = self.places.hospital(name)
        elif name in (SERVER, "train.py"):
            folder = self.places.coordinator
        else:
            folder = self.places.provisioner
        threads = max(1, (os.cpu_count() or 1) // len(self.project.sites))
        log = None if name == "train.py" else folder / f"{name.split()[0]}.log"
        return Party(name, folder, environment(folder, threads), log)

    @property
    def user_kit(self) -> Path:
        """Folder of the kit of the user who starts runs; NVFlare wants it named as the user."""
        return self.places.coordinator / self.project.user


def check_installed() -> None:
    """Raise a ConfigError that names what is missing."""
    if importlib.util.find_spec("nvflare") is None:
        raise ConfigError("The demo needs NVFlare: pip install 'lightning-fl[nvflare]'")
    for file in (TRAIN, CONFIG, PROJECT):
        if not file.is_file():
            raise ConfigError(
                f"There is no {file}; the demo needs the repository, installed with `pip install "
                "--editable`."
            )
