"""What all sites of a run share."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
from torch import Tensor

from lightning_fl.aggregation.base import Aggregator
from lightning_fl.algorithms import Algorithm
from lightning_fl.personalisation import Personalisation
from lightning_fl.privacy.sample_level import SamplePrivacy
from lightning_fl.privacy.variances import as_they_are
from lightning_fl.site.terms import SiteTerms
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.training.fitting import TrainerOptions
from lightning_fl.training.layout import Layout


@dataclass(frozen=True)
class SiteSetup:
    """Settings and objects that every site of a run uses alike.

    Attributes:
        template: the task's module with the run's first weights; copied, never changed.
        layout: of the weights that travel.
        algorithm: of the run.
        aggregator: of the run; adds the operations of its site half.
        trainer: how long and how to train in a round.
        evaluation: how to score.
        personalisation: how to make the finished model the site's own.
        run: identifier of the run; messages of another run are refused.
        seed: of the run.
        rounds: of the whole run.
        callbacks: the user's own; copied for each fit.
        privacy: how to train under sample-level differential privacy; None trains as usual.
        shares_curves: whether the coordinator may see training curves of this site.
        terms: of the site's hospital.
        repair: makes global weights usable that privacy's noise has spoiled.
        drawn: gives the sites that train in a round; None where any may.
    """

    template: pl.LightningModule
    layout: Layout
    algorithm: Algorithm
    aggregator: Aggregator
    trainer: TrainerOptions
    evaluation: Evaluation
    personalisation: Personalisation
    run: str
    seed: int
    rounds: int
    callbacks: Sequence[pl.Callback] = ()
    privacy: SamplePrivacy | None = None
    shares_curves: bool = False
    terms: SiteTerms = field(default_factory=SiteTerms)
    drawn: Callable[[int], Collection[str]] | None = None
    repair: Callable[[Tensor], Tensor] = as_they_are
