"""The coordinator's state after each round, written so that it is always whole."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_bytes

KEPT = 2
"""Checkpoints that stay on disk: the last one, and the one before should the last be damaged."""
TENSORS = ("weights", "best_weights", "server", "mean")
"""Fields of a state that are kept as tensors; the others are JSON."""
SERVER = "server."
"""Stands before the names of the server optimiser's tensors."""


@dataclass
class Attested:
    """Hold what sites have signed of the weights of a round.

    Attributes:
        memory: digest of what the server optimiser remembers.
        signed: the signature of each site that has one.
    """

    memory: str
    signed: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunState:
    """Everything the coordinator needs to go on with the next round.

    Attributes:
        run: identifier of the run.
        fingerprint: of the layout of the weights.
        weights: global weights after `round` rounds, shape (length,).
        best_weights: global weights that scored best on validation data.
        round: rounds that are done.
        best: for each site the round its final model comes from; the same for all, unless every
            site trains alone.
        best_before: what `best` was before it last changed.
        best_scores: the validation score of that round, by site, or one under "mean".
        dropped: one entry for each time a site was dropped.
        aggregation: what the aggregator handed over to the next round.
        server: what the server optimiser handed over to the next round, each of shape (length,).
        aggregations: facts about the aggregation of each round, for results.json.
        gradients: computed in training at all sites; None where sites do not say.
        sites: names of all hospitals; [] in a checkpoint of version 0.1.0.
        outcome: what sites are told of the mean of the coming round; None before there is one.
        mean: of the coming round, shape (length,); None before there is one.
        attested: what sites have signed of weights that may be sent again, by round.
        rows: how many rows of metrics.csv, costs.csv and transcript.csv belong to these rounds.
    """

    run: str
    fingerprint: str
    weights: Tensor
    best_weights: Tensor
    round: int = 0
    best: dict[str, int] = field(default_factory=dict)
    best_before: dict[str, int] = field(default_factory=dict)
    best_scores: dict[str, float] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    aggregation: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Tensor] = field(default_factory=dict)
    aggregations: list[dict[str, Any]] = field(default_factory=list)
    gradients: int | None = 0
    sites: list[str] = field(default_factory=list)
    outcome: dict[str, Any] | None = None
    mean: Tensor | None = None
    attested: dict[str, Attested] = field(default_factory=dict)
    rows: tuple[int, int, int] = (0, 0, 0)

    def attest(self, memory: str, signed: Mapping[str, Any]) -> None:
        """Keep sites' signatures under the present weights, by site."""
        self.attested.setdefault(str(self.round), Attested(memory)).signed |= signed

    def forget_attested(self) -> None:
        """Drop the signatures under weights that are not sent any more."""
        needed = {str(round_) for round_ in (self.round, *self.best.values())}
        self.attested = {r: signed for r, signed in self.attested.items() if r in needed}

    def count_gradients(self, counts: Sequence[Any]) -> None:
        """Add the gradients that the sites tell of a round.

        Once a site tells none, their sum stays unknown.
        """
        complete = self.gradients is not None and all(type(count) is int for count in counts)
        self.gradients = (self.gradients or 0) + sum(counts) if complete else None


class Checkpoints:
    """The run's folder `checkpoints/`: one file a round, of which the last two are kept.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def save(self, state: RunState) -> None:
        """Write a round's state in one step and delete what is older than the last two."""
        facts = {k: v for k, v in vars(state).items() if k not in TENSORS}
        facts["attested"] = {round_: asdict(known) for round_, known in state.attested.items()}
        tensors = {"weights": state.weights, "best_weights": state.best_weights.clone()}
        tensors |= {} if state.mean is None else {"mean": state.mean}
        tensors |= {SERVER + name: value.clone() for name, value in state.server.items()}
        data = safetensors.torch.save(tensors, {"state": json.dumps(facts)})
        write_bytes(self._path(state.round), data)
        for round_ in self._rounds()[:-KEPT]:
            self._path(round_).unlink()

    def latest(self) -> RunState | None:
        """Return the state after the last whole round, or None before the first.

        Raises:
            ConfigError: a checkpoint is damaged.
        """
        rounds = self._rounds()
        if not rounds:
            return None
        path = self._path(rounds[-1])
        try:
            with safe_open(path, "pt") as file:
                facts: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = safetensors.torch.load_file(path)
            facts |= {name: tensors.pop(name) for name in ("weights", "best_weights")}
            facts["mean"] = tensors.pop("mean", None)
            facts["server"] = {name.removeprefix(SERVER): value for name, value in tensors.items()}
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Checkpoint {path} is damaged ({error}). Delete it to go on from the one before."
            ) from error
        facts["rows"] = tuple(facts["rows"])
        kept = facts.get("attested", {})  # which checkpoints of version 0.1.0 have not
        facts["attested"] = {round_: Attested(**entry) for round_, entry in kept.items()}
        return RunState(**facts)

    def _path(self, round_: int) -> Path:
        return self.folder / f"round-{round_:05d}.safetensors"

    def _rounds(self) -> list[int]:
        names = (re.fullmatch(r"round-(\d+)", p.stem) for p in self.folder.glob("*.safetensors"))
        return sorted(int(match[1]) for match in names if match)
