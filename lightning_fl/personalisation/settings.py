"""The settings of personalisation: the candidates, and how the guard chooses among them.

The candidates do not depend on the algorithm, so methods are compared and not their endings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.candidate import Candidate, Variant
from lightning_fl.personalisation.fine_tune import FineTune
from lightning_fl.personalisation.workbench import Workbench


@dataclass(frozen=True)
class Personalisation:
    """Say how each site makes the finished model its own.

    Args:
        candidates: ways to try, in order: those that build on a fine-tuning come after it, and of
            equal scores the first wins. The model as it came is always there before them; with []
            it is the only one. null is one FineTune with its default settings.
        margin: how much better on validation than the best model without personalising a candidate
            must be, in units of `evaluation.metric` (0.01 is a Dice point of a hundred).
        few: a site with fewer validation patients than this chooses by cross-validation inside
            its training patients, which costs a personalisation for each fold; 0 for never.
        folds: of that cross-validation, at most one for each patient.
        patients: numbers of patients with which a hospital in `data.unseen` is also personalised
            and tested, e.g. [1, 2, 4], to see how many a new hospital needs.
    """

    candidates: Sequence[Candidate] | None = None
    margin: float = 0.0
    few: int = 0
    folds: int = 4
    patients: Sequence[int] = ()

    def check(self, module: pl.LightningModule) -> None:
        """Refuse values that cannot work, and candidates that cannot work with a task."""
        for name, value in (("margin", self.margin), ("few", self.few)):
            if not value >= 0:
                raise ConfigError(
                    f"Expected `personalisation.{name}` to be 0 or more, but got {value}."
                )
        if self.folds < 2:
            raise ConfigError(
                f"Expected `personalisation.folds` to be at least 2, but got {self.folds}. To do "
                "without cross-validation set `few` to 0."
            )
        if any(count < 1 for count in self.patients):
            raise ConfigError(
                "Expected `personalisation.patients` to be numbers from 1 on, but got "
                f"{list(self.patients)}. The model as it came is tested in any case."
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

    def check_patients(self, site: str, training: int) -> None:
        """Refuse `patients` that ask for more than the training patients of a new hospital."""
        largest = max(self.patients, default=0)
        if largest > training:
            raise ConfigError(
                f"`personalisation.patients` asks for {largest} patients, but {site!r} has "
                f"{training} beside those for validation and test. Ask for fewer."
            )

    def chosen(self) -> Sequence[Candidate]:
        """Return the candidates, or the default one."""
        return [FineTune()] if self.candidates is None else self.candidates

    def variants(self, bench: Workbench) -> list[Variant]:
        """Make every variant of the bench's start model."""
        variants: list[Variant] = []
        for candidate in self.chosen():
            variants += candidate.variants(bench, variants)
        return variants
