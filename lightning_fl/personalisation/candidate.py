"""What a way of personalising offers: variants of a model, among which the guard chooses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl

from lightning_fl.personalisation.workbench import Workbench


@dataclass(frozen=True)
class Variant:
    """Describe one model that a site might use.

    Attributes:
        name: in results.json, e.g. "finetune@50".
        module: the model.
        steps: optimiser steps that led to it.
        path: label of the fine-tuning whose snapshot it is; empty if it is none.
        members: names of the variants whose outputs it averages; empty if it is no ensemble.
        is_reference: whether the site has this model without personalising. The guard uses nothing
            that is worse than a reference.
    """

    name: str
    module: pl.LightningModule
    steps: int = 0
    path: str = ""
    members: tuple[str, ...] = ()
    is_reference: bool = False


class Candidate(ABC):
    """Offer a way of personalising; one object serves every site and keeps nothing of any.

    Attributes:
        label: how names of its variants begin; differs between the candidates of a run.
    """

    label: str

    def check(  # noqa: B027  most candidates have nothing to check
        self, module: pl.LightningModule, before: Sequence["Candidate"]
    ) -> None:
        """Refuse, before round 1, what cannot work with a task, or behind the candidates before.

        Raises:
            ConfigError: names the setting and the remedy.
        """

    @abstractmethod
    def variants(self, bench: Workbench, earlier: Sequence[Variant]) -> list[Variant]:
        """Make this candidate's variants.

        Args:
            bench: the start model and the training patients; it has no others.
            earlier: variants that the candidates before this one have made of that start model.
        """
