"""What a site keeps in its own folder between operations, so that memory holds no model."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from lightning_fl.errors import DataError
from lightning_fl.files import replacing, write_bytes
from lightning_fl.training.layout import State
from lightning_fl.training.progress import Progress

PRIVATE = "private"
"""Name of the state of the shared model that stays at the site."""
SERVER = "server."
"""Stands before the names of the server optimiser's tensors."""
SECOND = "second"
"""Name of the state of a second model, which some algorithms train."""


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

    def save_weights(self, round_: int, weights: Tensor, server: State | None = None) -> None:
        """Keep the global weights after a round, shape (length,), in place of the last ones.

        `server` is what the server optimiser remembers of the round, each of shape (length,).
        """
        memory = {SERVER + name: value for name, value in (server or {}).items()}
        self._save("weights", {"vector": weights, **memory}, {"round": str(round_)})

    def server(self) -> State:
        """Return what the server optimiser remembers, as it came with the stored weights."""
        with safe_open(self._path("weights"), "pt") as file:
            names = [name for name in file.keys() if name.startswith(SERVER)]  # noqa: SIM118
            return {name.removeprefix(SERVER): file.get_tensor(name) for name in names}

    def weights(self, round_: int) -> Tensor:
        """Return the global weights after a round, shape (length,).

        Raises:
            ValueError: the weights that are here belong to another round.
        """
        return self._of_round("weights", round_)

    def has_weights(self, round_: int) -> bool:
        """Return whether the global weights that are here are those of a round."""
        if not self.has_tensors("weights"):
            return False
        with safe_open(self._path("weights"), "pt") as file:
            return int(file.metadata()["round"]) == round_

    def has_tensors(self, name: str) -> bool:
        """Return whether there is a file NAME.safetensors."""
        return self._path(name).is_file()

    def save_block(self, step: int, block: Tensor) -> None:
        """Keep one block of global weights that come in several."""
        self._save(f"block-{step:05d}", {"vector": block})

    def join_blocks(self, count: int) -> Tensor:
        """Join blocks 0 to `count` - 1 of the weights, and delete the blocks."""
        files = [self._path(f"block-{step:05d}") for step in range(count)]
        weights = torch.empty(sum(self._length(file) for file in files))
        start = 0
        for file in files:  # one at a time, for together they are as large as the weights
            block = safetensors.torch.load_file(file)["vector"]
            weights[start : start + len(block)] = block
            start += len(block)
            file.unlink()
        return weights

    def _length(self, file: Path) -> int:
        with safe_open(file, "pt") as stored:
            return int(stored.get_slice("vector").get_shape()[0])

    def check_split(self, split: dict[str, tuple[str, ...]]) -> None:
        """Remember which patients train, validate and test, and refuse another split later.

        The split is drawn from the list of patients, so an added patient could turn a training
        patient into a test patient. The digest never leaves the site.

        Raises:
            DataError: the run began with other patients; a training patient could be tested.
        """
        text = json.dumps(split, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        file = self.folder / "split.sha256"
        if file.exists() and file.read_text() != digest:
            raise DataError(
                f"The patients in {self.folder.name!r} or their split are not those the run began "
                "with, so patients it has trained on could be tested. Put the data back as they "
                "were, or start a new run."
            )
        write_bytes(file, digest.encode())

    def save_update(self, round_: int, update: Tensor, origin: str) -> None:
        """Keep the update of a round, shape (length,), and that of the round before.

        `origin` is the digest of the weights that it was trained from.
        """
        metadata = {"round": str(round_), "origin": origin}
        self._save(f"update-{round_:05d}", {"vector": update}, metadata)
        for old in self._rounds("update"):
            if old < round_ - 1:  # a resumed run goes back by one
                self._path(f"update-{old:05d}").unlink()

    def has_update(self, round_: int) -> bool:
        """Return whether the update of a round is here."""
        return self.has_tensors(f"update-{round_:05d}")

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """Return values `start` to `stop` of the update of a round; the rest stays on disk.

        Raises:
            ValueError: there is no update of the round.
        """
        self._check_update(round_)
        return self._of_round(f"update-{round_:05d}", round_, slice(start, stop))

    def origin(self, round_: int) -> str:
        """Return the digest of the weights that the update of a round was trained from.

        Raises:
            ValueError: there is no update of the round.
        """
        self._check_update(round_)
        with safe_open(self._path(f"update-{round_:05d}"), "pt") as file:
            return str(file.metadata()["origin"])

    def _check_update(self, round_: int) -> None:
        if not self.has_update(round_):
            rounds = self._rounds("update")
            raise ValueError(f"There are updates of rounds {rounds} here, not of round {round_}.")

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what the update of a round left out, shape (length,), and that of rounds before.

        Kept by round like the private state: a resumed run may train its last rounds again.
        """
        self._save(f"carry-{round_:05d}", {"vector": carry})
        before = [r for r in self._rounds("carry") if r <= round_ - 3]
        for old in before[:-1]:  # the newest of them may be what a resumed round starts from
            self._path(f"carry-{old:05d}").unlink()

    def carry(self, round_: int) -> Tensor | None:
        """Return the newest carry of round `round_` or before, or None."""
        rounds = [r for r in self._rounds("carry") if r <= round_]
        return self._load(f"carry-{rounds[-1]:05d}")["vector"] if rounds else None

    def _of_round(self, name: str, round_: int, part: slice = slice(None)) -> Tensor:
        with safe_open(self._path(name), "pt") as file:
            stored = int(file.metadata()["round"])
            if stored != round_:
                raise ValueError(f"The {name} here are of round {stored}, not of round {round_}.")
            vector: Tensor = file.get_slice("vector")[part]
        return vector

    def save_private(
        self, round_: int, state: State, progress: Progress, *, model: str = PRIVATE
    ) -> None:
        """Keep what stays at the site after training a round."""
        self._save(f"{model}-{round_:05d}", state, {"progress": progress.to_json()})

    def private(self, round_: int, *, model: str = PRIVATE) -> tuple[State, Progress]:
        """Return the newest private state of round `round_` or before, empty before any."""
        rounds = [r for r in self._rounds(model) if r <= round_]
        if not rounds:
            return {}, Progress()
        name = f"{model}-{rounds[-1]:05d}"
        with safe_open(self._path(name), "pt") as file:
            progress = Progress.from_json(file.metadata()["progress"])
        return self._load(name), progress

    def forget(self, keep: Collection[int]) -> None:
        """Delete private states that none of the rounds in `keep` would start from."""
        for model in (PRIVATE, SECOND):
            rounds = self._rounds(model)
            needed = {max((r for r in rounds if r <= k), default=-1) for k in keep}
            for round_ in rounds:
                if round_ not in needed and round_ < max(keep, default=0):
                    self._path(f"{model}-{round_:05d}").unlink()

    def save_tensors(self, name: str, tensors: State) -> Path:
        """Keep any tensors as NAME.safetensors."""
        return self._save(name, tensors)

    def _rounds(self, name: str) -> list[int]:
        names = (re.fullmatch(rf"{name}-(\d+)", p.stem) for p in self.folder.iterdir())
        return sorted(int(match[1]) for match in names if match)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _save(self, name: str, tensors: State, metadata: dict[str, str] | None = None) -> Path:
        whole = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        if len(whole) > 1:  # entries that share memory (tied weights) are refused by safetensors
            whole = {k: v.clone() for k, v in whole.items()}
        with replacing(self._path(name)) as file:  # the bytes of a large net are never held whole
            safetensors.torch.save_file(whole, file, metadata)
        return self._path(name)

    def _load(self, name: str) -> State:
        return safetensors.torch.load_file(self._path(name))
