"""A model that a site trains alone, to be no worse off with the federation than without."""

import copy
from collections.abc import Sequence

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import RateSchedule, check_rate
from lightning_fl.personalisation.workbench import Workbench


class LocalModel(Candidate):
    """Train a model by the site alone, from the weights the run began with.

    Its gradients come on top of the federation's. It counts among the models that a site has
    without personalising, so the guard uses nothing that is worse on validation.

    Args:
        steps: optimiser steps.
        lr: learning rate, null for the task's own. Schedulers are left out.
    """

    label = "local"

    def __init__(self, steps: int, lr: float | None = None) -> None:
        if steps < 1:
            raise ConfigError(f"Expected LocalModel's `steps` to be at least 1, but got {steps}.")
        check_rate("LocalModel", lr)
        self.steps = steps
        self.lr = lr

    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make one variant, e.g. "local@160"."""
        module = copy.deepcopy(bench.task.template)
        schedule = RateSchedule(self.lr, "constant", self.steps)
        bench.fit(module, self.steps, "local model", [schedule])
        return [Variant(f"{self.label}@{self.steps}", module, self.steps, is_reference=True)]
