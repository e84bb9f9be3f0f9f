"""The settings of personalisation: the candidates, and how the guard chooses among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import FineTune
from lightning_fl.personalisation.workbench import Workbench


@dataclass(frozen=True)
class Personalisation:
    """How each site makes the finished model its own.

    Args:
        candidates: ways to try, in order: those that build on a fine-tuning come after it, and of
            equal scores the first wins. The model as it came is always there before them; with []
            it is the only one. null is one FineTune with its default settings.
        margin: how much better on validation than the model as it came a candidate must be, in
            units of `evaluation.metric` (0.01 is a Dice point of a hundred).
    """

    candidates: Sequence[Candidate] | None = None
    margin: float = 0.0

    def check(self, module: pl.LightningModule) -> None:
        """Refuse what cannot work.

        Args:
            module: the task's, with the run's start weights.

        Raises:
            ConfigError: names the value and the remedy.
        """
        if not self.margin >= 0:
            raise ConfigError(
                f"Expected `personalisation.margin` to be 0 or more, but got {self.margin}."
            )
        before: list[Candidate] = []
        for candidate in self.chosen():
            if candidate.label in {other.label for other in before}:
                raise ConfigError(
                    f"Two of `personalisation.candidates` are called {candidate.label!r}. Give a "
                    "FineTune another `name`, and use every other candidate once."
                )
            candidate.check(module, before)
            before.append(candidate)

    def chosen(self) -> Sequence[Candidate]:
        """The candidates, or the default one."""
        return [FineTune()] if self.candidates is None else self.candidates

    def variants(self, bench: Workbench) -> list[Variant]:
        """Make every variant of the bench's start model."""
        found: list[Variant] = []
        for candidate in self.chosen():
            found += candidate.variants(bench, found)
        return found
