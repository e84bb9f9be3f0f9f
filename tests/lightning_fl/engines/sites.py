"""Sites that do at once what they are told, in whatever process they live."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import lightning_fl
from lightning_fl.errors import NonFiniteError


class Obedient:
    """Answers with what it is asked about; its only state is a file in its folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.state = folder / name
        self.heard = 0

    def handle(self, op: str, payload: bytes) -> bytes:
        self.heard += 1
        return bytes(getattr(self, op)(payload))

    def echo(self, payload: bytes) -> bytes:
        return payload

    def where(self, payload: bytes) -> bytes:
        return (
            f"{os.getpid()} {torch.get_num_threads()} {Path.cwd()} {lightning_fl.__file__}".encode()
        )

    def count(self, payload: bytes) -> bytes:
        """How often it was asked: ever, by the folder, and since it was built."""
        ever = int(self.state.read_text()) + 1 if self.state.exists() else 1
        self.state.write_text(str(ever))
        return f"{ever} {self.heard}".encode()

    def fail(self, payload: bytes) -> bytes:
        raise OSError("no disk")

    def diverge(self, payload: bytes) -> bytes:
        raise NonFiniteError("weights are NaN")

    def sleep(self, payload: bytes) -> bytes:
        time.sleep(float(payload))
        return payload

    def die(self, payload: bytes) -> bytes:
        os._exit(1)


@dataclass(frozen=True)
class MakeObedient:
    """Makes them, but for a site of a name that says it cannot be built."""

    folder: str

    def __call__(self, name: str) -> Obedient:
        if name == "homeless":
            raise FileNotFoundError("no data folder")
        return Obedient(name, Path(self.folder))
