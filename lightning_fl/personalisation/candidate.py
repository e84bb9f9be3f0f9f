"""What a way of personalising has to offer: variants of a model for the guard to choose from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl

from lightning_fl.personalisation.workbench import Workbench


@dataclass(frozen=True)
class Variant:
    """One model that a site might use.

    Attributes:
        name: in results.json, e.g. "finetune@50".
        module: the model.
        steps: optimiser steps that led to it.
        path: label of the fine-tuning whose snapshot it is; empty if it is none.
        members: names of the variants whose outputs it averages; empty if it is no ensemble.
        is_reference: whether it is a model that the site has without personalising, of which the
            guard uses none that is worse.
    """

    name: str
    module: pl.LightningModule
    steps: int = 0
    path: str = ""
    members: tuple[str, ...] = ()
    is_reference: bool = False


class Candidate(ABC):
    """A way of personalising; one object serves every site and keeps nothing of any.

    Attributes:
        label: how names of its variants begin; differs between the candidates of a run.
    """

    label: str

    def check(  # noqa: B027  most candidates have nothing to check
        self, module: pl.LightningModule, before: Sequence["Candidate"]
    ) -> None:
        """Refuse, before round 1, what cannot work.

        Args:
            module: the task's, with the run's start weights.
            before: the candidates that stand before this one in the list.

        Raises:
            ConfigError: names the setting and the remedy.
        """

    @abstractmethod
    def variants(self, bench: Workbench, found: Sequence[Variant]) -> list[Variant]:
        """Make this candidate's variants.

        Args:
            bench: the start model and the training patients; it has no others.
            found: what the candidates before this one have made of the same start.
        """
