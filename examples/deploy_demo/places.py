"""Where the parties of the demo have their files; in a deployment these are different machines."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN = REPOSITORY / "train.py"
CONFIG = REPOSITORY / "configs" / "deploy_demo.yaml"
PROJECT = REPOSITORY / "configs" / "deploy" / "project.yml"
KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TMPDIR")
"""What a process of the demo takes from the environment of the user."""


@dataclass(frozen=True)
class Places:
    """Folders of the demo.

    Attributes:
        folder: holds all of them; made absolute, since each party works in a folder of its own.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", self.folder.resolve())

    @property
    def provisioner(self) -> Path:
        """The folder of whoever makes the certificates and keeps the key of the root."""
        return self.folder / "provisioner"

    @property
    def coordinator(self) -> Path:
        """The folder of the server and of the user who starts runs."""
        return self.folder / "coordinator"

    @property
    def run(self) -> Path:
        """The run's folder, at the coordinator."""
        return self.coordinator / "run"

    def hospital(self, site: str) -> Path:
        """Return the folder of a hospital, with its kit, its data and its identity."""
        return self.folder / "hospitals" / site

    def data(self, site: str) -> Path:
        """Return the folder of a hospital's data, the `root` of its data module."""
        return self.hospital(site) / "data"

    def kit(self, site: str) -> Path:
        """Return the folder of a hospital's startup kit."""
        return self.hospital(site) / "kit"


def environment(home: Path, threads: int) -> dict[str, str]:
    """Return the environment of a party's processes: nothing of the user's own."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    python = str(Path(sys.executable).parent)  # the kits' scripts start python3
    return kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join([python, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": str(threads),
    }
