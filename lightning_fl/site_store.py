"""What a site keeps in its own folder between operations, so that memory holds no model."""

import re
from collections.abc import Collection
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from lightning_fl.atomic import write_bytes
from lightning_fl.fitting import Progress
from lightning_fl.parameters import State


class SiteStore:
    """A site's folder: global weights, private state by round, the update of a round.

    Private states are kept by round, because a run that is resumed trains its last round again
    and must start from the state before it.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def save_weights(self, round_: int, weights: Tensor) -> None:
        """Keep the global weights after a round, shape (length,), in place of the last ones."""
        self._save("weights", {"vector": weights}, {"round": str(round_)})

    def weights(self, round_: int) -> Tensor:
        """The global weights after a round.

        Raises:
            ValueError: the weights that are here belong to another round.
        """
        return self._of_round("weights", round_)

    def save_update(self, round_: int, update: Tensor) -> None:
        """Keep the update of a round, shape (length,), in place of the last one."""
        self._save("update", {"vector": update}, {"round": str(round_)})

    def update(self, round_: int) -> Tensor:
        """The update of a round.

        Raises:
            ValueError: the update that is here belongs to another round.
        """
        return self._of_round("update", round_)

    def _of_round(self, name: str, round_: int) -> Tensor:
        with safe_open(self._path(name), "pt") as file:
            found = int(file.metadata()["round"])
            if found != round_:
                raise ValueError(f"The {name} here are of round {found}, not of round {round_}.")
            vector: Tensor = file.get_tensor("vector")
        return vector

    def save_private(self, round_: int, state: State, progress: Progress) -> None:
        """Keep what stays at the site after training a round."""
        self._save(f"private-{round_:05d}", state, {"progress": progress.to_json()})

    def private(self, round_: int) -> tuple[State, Progress]:
        """The newest private state of round `round_` or before; an empty one before any."""
        rounds = [r for r in self._rounds() if r <= round_]
        if not rounds:
            return {}, Progress()
        name = f"private-{rounds[-1]:05d}"
        with safe_open(self._path(name), "pt") as file:
            progress = Progress.from_json(file.metadata()["progress"])
        return self._load(name), progress

    def forget(self, keep: Collection[int]) -> None:
        """Delete private states that none of the rounds in `keep` would start from."""
        rounds = self._rounds()
        needed = {max((r for r in rounds if r <= k), default=-1) for k in keep}
        for round_ in rounds:
            if round_ not in needed and round_ < max(keep, default=0):
                self._path(f"private-{round_:05d}").unlink()

    def save_tensors(self, name: str, tensors: State) -> Path:
        """Keep any tensors as NAME.safetensors."""
        return self._save(name, tensors)

    def _rounds(self) -> list[int]:
        names = (re.fullmatch(r"private-(\d+)", p.stem) for p in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _save(self, name: str, tensors: State, metadata: dict[str, str] | None = None) -> Path:
        # clone: entries that share memory (tied weights) are refused by safetensors
        whole = {k: torch.clone(v.detach().cpu()).contiguous() for k, v in tensors.items()}
        write_bytes(self._path(name), safetensors.torch.save(whole, metadata))
        return self._path(name)

    def _load(self, name: str) -> State:
        return safetensors.torch.load_file(self._path(name))
