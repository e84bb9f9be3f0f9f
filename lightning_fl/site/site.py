"""A hospital in a run: its LightningModule, data and private state behind a boundary of bytes."""

import copy
import math
from pathlib import Path
from typing import Any

from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.data.module import POOLED, FederatedDataModule
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.privacy.fitness import check_loss
from lightning_fl.privacy.sample_level import FILE
from lightning_fl.run_files import PERSONAL
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site.disclosure import Disclosure
from lightning_fl.site.final import FinalEvaluation
from lightning_fl.site.global_weights import GlobalWeights
from lightning_fl.site.ledger import MOST_REFUSALS, Ledger
from lightning_fl.site.local_state import LocalState
from lightning_fl.site.round import LocalRound
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.store import SiteStore
from lightning_fl.training.case_scores import ScoreImages
from lightning_fl.training.fitting import evaluate
from lightning_fl.training.rehearsal import rehearse
from lightning_fl.wire.messages import Message, MessageError
from lightning_fl.wire.operations import Answer, SiteOperation, handle_message


class Site:
    """Answers the operations of a run; what is not in an answer never leaves the site.

    A site holds no weights between operations. The global weights, the update and the private state
    are files in its folder, from which the site can be rebuilt at any time. So memory does not grow
    with the number of sites (benchmarks/many_sites.py).

    Args:
        name: of the hospital.
        setup: what all sites of the run share.
        data: bound to this hospital.
        folder: the site's own; made if it is not there.
    """

    def __init__(
        self, name: str, setup: SiteSetup, data: FederatedDataModule, folder: Path
    ) -> None:
        self.name = name
        self.setup = setup
        self.state = LocalState(name, setup, data, SiteStore(folder))
        self.ledger = Ledger(folder, setup.run)
        self.disclosure = Disclosure(setup.terms)
        weights = GlobalWeights(self.state, self.ledger)
        self._operations: dict[str, SiteOperation] = {
            "describe": self._describe,
            "load": weights.load,
            "apply": weights.apply,
            "train": self._train,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
            **setup.aggregator.site_operations(self.state),
        }

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        Raises:
            ConfigError: the run goes past what the site's hospital asks of every run.
            MessageError: the payload is damaged or of another run, the operation unknown, out of
                order or done before, or the site has left the run.
        """
        if self.ledger.has_left:
            raise MessageError(
                f"Site {self.name!r} has refused {MOST_REFUSALS} messages and has left run "
                f"{self.setup.run!r}. Start a new run."
            )
        self._check_terms()  # at each operation: a refused `describe` does not stop a liar
        try:
            return handle_message(self.name, self.setup.run, self._operations, op, payload)
        except MessageError:
            self.ledger.refuse()
            raise

    def _describe(self, message: Message) -> Answer:
        """Check everything that can be checked before training, by doing it once."""
        data, aggregator = self.state.data, self.setup.aggregator
        self.ledger.start()
        sizes = {part: data.sample_count(part) for part in ("train", "val", "test")}
        unseen = self.name in data.unseen
        if not unseen and sizes["train"] == 0:
            raise DataError(f"Site {self.name!r} has no training images.")
        self.state.store.check_split(data.split_by_site())
        data.check()
        if unseen:
            patients = len(data.split(self.name).train)
            self.setup.personalisation.check_patients(self.name, patients)
        if sizes["train"]:
            if not unseen and self.setup.layout.length:
                aggregator.check_site(self.state)
                if aggregator.noise is not None:
                    self.state.check_first_release(aggregator.noise.noise_multiplier)
            self._rehearse()
        info: dict[str, Any] = {"layout": self.setup.layout.fingerprint}
        if not aggregator.hides_samples:
            info |= {"samples": sizes, "patients": data.patient_counts()}
        self.ledger.describe()
        return Answer(info, {})

    def _rehearse(self) -> None:
        """Train and validate one batch on a copy that is thrown away."""
        setup, state = self.setup, self.state
        seed_all(derive_seed(setup.seed, self.name, "rehearsal"))
        module = copy.deepcopy(setup.template)
        loader = state.train_loader("rehearsal", 0, batches=setup.algorithm.batches_per_step)
        if setup.privacy is not None:
            check_loss(module, next(iter(loader)))
            setup.privacy.check(state.budget(FILE), loader)
        callbacks = [FederatedCallback(setup.algorithm), *copy.deepcopy(list(setup.callbacks))]
        scoring = [ScoreImages(state.data.pixel_size(self.name))]
        logged = rehearse(
            module,
            loader,
            state.data.loader("val"),
            callbacks,
            setup.trainer,
            setup.rounds,
            scoring,
        )
        if setup.evaluation.metric not in logged:
            raise ConfigError(
                f"`evaluation.metric` is {setup.evaluation.metric!r}, but the task logs "
                f"{sorted(logged)} in validation and test."
            )

    def _check_terms(self) -> None:
        """Refuse a run that goes past what the site's hospital asks of every run."""
        self.disclosure.check_metric(self.setup.evaluation.metric)
        if self.setup.terms.verified and not self.setup.aggregator.verifies:
            raise ConfigError(
                f"The run averages by {type(self.setup.aggregator).__name__} without pinned "
                "identities or pairwise masks, so this site cannot verify the weights that it is "
                "sent. Use CyclicCKKS with pins, or write `pins: none` into the hospital's file."
            )
        self._check_budget()

    def _check_budget(self) -> None:
        """Refuse a run that a privacy budget cannot count, where the hospital has one."""
        noise = self.setup.aggregator.noise is not None
        if self.setup.terms.epsilon is None:
            return
        if noise and not self.setup.aggregator.verifies:
            raise ConfigError(
                "This hospital has a privacy budget, but without pins a coordinator could play "
                "the other sites, whose noise is counted too. Use CyclicCKKS with pins."
            )
        if not noise and self.setup.privacy is None:
            raise ConfigError(
                f"This hospital has a privacy budget of epsilon {self.setup.terms.epsilon:g}, but "
                "the run has no differential privacy. Set `privacy`, or let the hospital set "
                "`epsilon: null` in its file."
            )

    def _train(self, message: Message) -> Answer:
        """Train one round from the global weights; see `LocalRound`."""
        round_, store = message.round, self.state.store
        if not 1 <= round_ <= self.setup.rounds or not self.state.is_drawn(self.name, round_):
            raise MessageError(f"Site {self.name!r} does not train in round {round_}.")
        stored = self.ledger.answer("train", round_)
        if stored is not None and store.has_update(round_):
            return Answer(stored, {})
        self._expect_weights(round_ - 1)
        answer = LocalRound(self.state, round_).run(_rounds(message.info.get("keep", [])))
        self.ledger.keep("train", round_, answer.info)
        return answer

    def _evaluate(self, message: Message) -> Answer:
        """Score the global model, as it is, on the site's validation data."""
        stored = self.ledger.answer("evaluate", message.round)
        if stored is not None:
            return Answer(stored, {})
        self._expect_weights(message.round)
        module, loader = self.state.module(message.round), self.state.data.loader("val")
        scores = evaluate(module, loader, "val", self.setup.trainer)
        value, loss = scores.get(self.setup.evaluation.metric, 0.0), scores.get("loss", math.nan)
        cases = len(self.state.data.split(self.name).val)
        info: dict[str, Any] = {"val": self.disclosure.scores(scores, cases)}
        if not info["val"] or (math.isnan(value) and math.isfinite(loss)):
            info["undefined"] = True  # a matter of the data, and not of a model that gives NaN
        self.ledger.keep("evaluate", message.round, info)
        return Answer(info, {})

    def _personalise(self, message: Message) -> Answer:
        """Personalise and test at the end of a run; see `FinalEvaluation`."""
        if self.name == POOLED:
            raise MessageError("The pooled site trains; it personalises for nobody.")
        stored = self.ledger.answer("personalise", self.setup.rounds)
        if stored is not None and stored["round"] != message.round:
            raise MessageError(
                f"Site {self.name!r} has personalised the model of round {stored['round']}, and "
                f"does so once in a run of {self.setup.rounds} rounds."
            )
        if stored is not None and self.state.store.has_tensors(PERSONAL):
            return Answer(stored["info"], {})
        self._expect_weights(message.round)
        answer = FinalEvaluation(self.state, self.disclosure).run(message.round)
        final = {"round": message.round, "info": answer.info}
        self.ledger.keep("personalise", self.setup.rounds, final)
        return answer

    def _expect_weights(self, round_: int) -> None:
        """Refuse what needs the weights of a round that the site has not got."""
        if not self.state.store.has_weights(round_):
            raise MessageError(
                f"Site {self.name!r} has not got the weights of round {round_}; send them first."
            )


def _rounds(keep: Any) -> list[int]:
    """Return the rounds whose private states may be needed again.

    Raises:
        MessageError: these are no rounds.
    """
    if not isinstance(keep, list) or not all(type(round_) is int for round_ in keep):
        raise MessageError(f"Expected `keep` to list rounds, but got {keep!r}.")
    return keep
