"""The mean of several models' probabilities, as one module of the task."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import last_path, require_path
from lightning_fl.personalisation.workbench import Workbench

OutputMap = Callable[[Tensor], Tensor]
Kind = Literal["pair", "path"]


class Ensemble(Candidate):
    """Mean probability of several models; no gradient of its own, but each member is run.

    Builds on the FineTune that stands before this in the list. "pair" takes the model as it came
    and the last snapshot, "path" takes every snapshot. Works with a task that holds one network
    as `net` and has a method `output_maps()`, which gives the function from the net's output to
    probabilities and its inverse; models.Segmentation does.

    Args:
        kinds: which of the two to make.

    Raises:
        ConfigError: there is no kind, or an unknown one.
    """

    label = "ensemble"

    def __init__(self, kinds: Sequence[Kind] = ("pair", "path")) -> None:
        if not kinds or not set(kinds) <= {"pair", "path"}:
            raise ConfigError(
                f"Expected Ensemble's `kinds` to be pair, path or both, but got {list(kinds)}."
            )
        self.kinds = tuple(dict.fromkeys(kinds))

    def check(self, module: pl.LightningModule, before: Sequence[Candidate]) -> None:
        """Refuse a task that cannot be averaged, and a path of a single snapshot."""
        path = require_path("Ensemble", before)
        if "path" in self.kinds and len(path.steps) < 2:
            raise ConfigError(
                "Ensemble's kind `path` averages the snapshots of a fine-tuning, but that before "
                f"it has one, after {path.steps[0]} steps. Give it more `steps`, or use `pair`."
            )
        check_averages("Ensemble", module)

    def variants(self, bench: Workbench, found: Sequence[Variant]) -> list[Variant]:
        """One variant for each kind."""
        path = last_path(found)
        members = {"pair": [Variant(bench.start_name, bench.start), path[-1]], "path": path}
        return [self._variant(kind, members[kind]) for kind in self.kinds]

    def _variant(self, kind: Kind, members: Sequence[Variant]) -> Variant:
        names = tuple(member.name for member in members)
        module = average_outputs([member.module for member in members])
        steps = max(member.steps for member in members)
        return Variant(f"{self.label}@{kind}", module, steps, members=names)


class MeanNet(nn.Module):
    """Gives the output whose probability is the mean of its members' probabilities.

    Args:
        members: networks with outputs of the same shape.
        to_probabilities: of an output; shape-preserving.
        to_outputs: its inverse.
    """

    def __init__(
        self, members: Sequence[nn.Module], to_probabilities: OutputMap, to_outputs: OutputMap
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.to_probabilities = to_probabilities
        self.to_outputs = to_outputs

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run every member on the same inputs."""
        mean = torch.zeros(())
        for number, member in enumerate(self.members, start=1):
            probabilities = self.to_probabilities(member(*inputs))
            mean = probabilities if number == 1 else mean + (probabilities - mean) / number
        return self.to_outputs(mean)


def check_averages(candidate: str, module: pl.LightningModule) -> None:
    """Refuse a task whose outputs cannot be averaged.

    Raises:
        ConfigError: it has no `net`, or does not say how outputs become probabilities.
    """
    task = type(module).__name__
    if not isinstance(getattr(module, "net", None), nn.Module):
        raise ConfigError(f"{candidate} needs the task's network as `net`, which {task} has not.")
    if not callable(getattr(module, "output_maps", None)):
        raise ConfigError(
            f"{candidate} averages probabilities, but {task} does not say how its outputs become "
            "some: it has no method `output_maps()` giving that function and its inverse. Add "
            f"it, or leave {candidate} out."
        )


def average_outputs(modules: Sequence[pl.LightningModule]) -> pl.LightningModule:
    """One module of the same task whose `net` averages those of several.

    Args:
        modules: at least one; their nets are used, not copied.
    """
    module = copy.deepcopy(modules[0])
    to_probabilities, to_outputs = module.output_maps()  # type: ignore[operator]
    nets = [one.get_submodule("net") for one in modules]
    module.net = MeanNet(nets, to_probabilities, to_outputs)
    return module
