"""What follows from the settings of a run alone; every party builds it for itself."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from lightning_fl.coordinator.checkpoint import RunState
from lightning_fl.data.elsewhere import DataElsewhere
from lightning_fl.errors import ConfigError
from lightning_fl.run.experiment import Experiment
from lightning_fl.run.privacy import RunPrivacy
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.site import Site
from lightning_fl.site.terms import SiteTerms
from lightning_fl.training.first_weights import weights_file, with_weights
from lightning_fl.training.layout import Layout, to_vector
from lightning_fl.training.lazy_layers import has_lazy_layers, with_lazy_layers_built
from lightning_fl.training.user_callbacks import check_callbacks


class Blueprint:
    """The checked settings of a run, its plan, its layout, and how its sites are made.

    Args:
        experiment: the settings.
        sites: all hospitals, where the data here are not those of all; () lists them from the data.
        init: file of the first weights; None takes those of the task, or of `experiment.init`.

    Attributes:
        plan: who does what.
        template: the task with the run's first weights.
        algorithm: of the run, which knows the number of rounds.
        aggregator: of the run, which adds noise where `privacy` asks for it.
        layout: of the weights that travel.
        privacy: what the key `privacy` means in this run.

    Raises:
        ConfigError: settings that cannot work together.
    """

    def __init__(
        self, experiment: Experiment, sites: Sequence[str] = (), init: Path | None = None
    ) -> None:
        trainer = experiment.trainer
        trainer.check()
        if trainer.local_steps is not None:
            experiment.algorithm.check_steps(trainer.local_steps)
        experiment.evaluation.check()
        check_callbacks(experiment.callbacks)
        self.experiment = experiment
        self.plan = experiment.plan(sites)
        self.algorithm = experiment.algorithm.for_rounds(experiment.rounds)
        task = _with_shapes(experiment, sites)
        if init is None and experiment.init is not None:
            init = weights_file(experiment.init)
        self.template = task if init is None else with_weights(task, init)
        experiment.personalisation.check(self.template)
        if experiment.personalisation.patients and not self.plan.unseen:
            raise ConfigError(
                "`personalisation.patients` is about hospitals that do not train, but there is "
                "none in this run. Name one in `data.unseen`, or leave `patients` empty."
            )
        self.layout: Layout = self.algorithm.layout(self.template)
        if experiment.init is not None and experiment.engine.sites:
            self._check_all_travel()
        if self.layout.length:
            names, per_round = self.plan.training, self.plan.sites_per_round
            experiment.aggregator.check(per_round, names, self.layout)
        self.privacy = RunPrivacy(
            experiment.privacy, self.plan, self.template, self.layout, self.algorithm, trainer
        )
        self.aggregator = self.privacy.protected(experiment.aggregator)

    def _check_all_travel(self) -> None:
        """Refuse `init` where hospitals keep layers, since the file is at the coordinator alone."""
        state = self.template.state_dict()
        kept = [n for n in self.layout.private if n in state and state[n].is_floating_point()]
        if kept:
            raise ConfigError(
                f"`init` gives weights to {len(kept)} entries, such as {kept[0]}, that stay at the "
                "hospitals, which do not have the file. Use a method without layers of its own."
            )

    def make_site(self, name: str, run: str, folder: Path, terms: SiteTerms | None = None) -> Site:
        """Build one site.

        Args:
            name: of the hospital.
            run: identifier of the run.
            folder: the site's own.
            terms: of the site's hospital; None for a simulated site.
        """
        experiment = self.experiment
        setup = SiteSetup(
            self.template,
            self.layout,
            self.algorithm,
            self.aggregator,
            experiment.trainer,
            experiment.evaluation,
            experiment.personalisation,
            run=run,
            seed=experiment.seed,
            rounds=experiment.rounds,
            callbacks=experiment.callbacks,
            privacy=self.privacy.of_samples,
            # Losses and norms carry no noise, and seconds tell how many samples there are.
            shares_curves=experiment.trainer.curves
            and experiment.privacy is None
            and not self.aggregator.hides_samples,
            terms=terms or SiteTerms(),
            repair=self.privacy.repair,
            drawn=self.plan.chosen,
        )
        return Site(name, setup, experiment.data.for_site(name, experiment.seed), folder)

    def first_state(self, run: str) -> RunState:
        """Return the coordinator's state before round 1."""
        weights = to_vector(self.template.state_dict(), self.layout)
        sites = list(self.plan.everyone)
        return RunState(run, self.layout.fingerprint, weights, weights, sites=sites)


def _with_shapes(experiment: Experiment, sites: Sequence[str]) -> pl.LightningModule:
    """Return the task, its lazy layers built from training data where all hospitals' are here.

    Hospitals elsewhere could have data of different shapes. Their lazy layers are refused.
    """
    task, data = experiment.task, experiment.data
    if sites or isinstance(data, DataElsewhere) or not has_lazy_layers(task):
        return task
    first = data.for_site(data.training_sites()[0], experiment.seed)
    return with_lazy_layers_built(task, first.train_loader(), experiment.seed)
