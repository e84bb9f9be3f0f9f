"""The mean of several models' probabilities, as one module of the task."""

import copy
from collections.abc import Sequence
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import last_path, require_path
from lightning_fl.personalisation.workbench import Workbench
from lightning_fl.training.output_maps import OutputMap, check_output_maps, output_maps

Kind = Literal["pair", "path"]


class Ensemble(Candidate):
    """Average the probabilities of several models. No gradient is taken, but each member is run.

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

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant for each kind."""
        path = last_path(earlier)
        members = {"pair": [Variant(bench.start_name, bench.start), path[-1]], "path": path}
        return [self._variant(kind, members[kind]) for kind in self.kinds]

    def _variant(self, kind: Kind, members: Sequence[Variant]) -> Variant:
        names = tuple(member.name for member in members)
        module = average_outputs([member.module for member in members])
        steps = max(member.steps for member in members)
        return Variant(f"{self.label}@{kind}", module, steps, members=names)


class MeanNet(nn.Module):
    """Give the output whose probability is the mean of its members' probabilities.

    Outputs of all members have one shape, which `to_probabilities` and its inverse preserve.
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
    if not isinstance(getattr(module, "net", None), nn.Module):
        task = type(module).__name__
        raise ConfigError(f"{candidate} needs the task's network as `net`, which {task} has not.")
    check_output_maps(module, f"{candidate} averages probabilities", f"leave {candidate} out")


def average_outputs(modules: Sequence[pl.LightningModule]) -> pl.LightningModule:
    """Make one module of the task whose `net` averages the nets of several, which it shares."""
    nets = [module.get_submodule("net") for module in modules]
    averaged = copy.deepcopy(modules[0])
    averaged.net = MeanNet(nets, *output_maps(averaged))
    return averaged
