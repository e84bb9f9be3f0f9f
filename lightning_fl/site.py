"""A hospital: one LightningModule, its data and its private state behind a boundary of bytes."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.aggregation.base import Aggregator, Answer, SiteOperation
from lightning_fl.algorithms import Algorithm
from lightning_fl.data import POOLED, FederatedDataModule
from lightning_fl.differential_privacy.fitness import check_loss
from lightning_fl.differential_privacy.sample_level import SamplePrivacy
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.evaluation import Evaluation
from lightning_fl.fitting import TrainerOptions, evaluate
from lightning_fl.messages import Message, MessageError
from lightning_fl.parameters import (
    State,
    from_vector,
    to_vector,
)
from lightning_fl.personalisation import Personalisation
from lightning_fl.rehearsal import rehearse
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site_final import FinalEvaluation
from lightning_fl.site_round import LocalRound
from lightning_fl.site_store import SECOND, SiteStore

CallbackFactory = Callable[[Algorithm], pl.Callback]


class Site:
    """Answers the operations of a run; what is not in an answer never leaves the site.

    Holds no weights between operations: the global weights, the update and the private state are
    files in its folder, from which a site can be rebuilt at any time.

    Args:
        name: of the hospital.
        template: the task's module; copied for each operation, never changed.
        data: bound to this hospital.
        algorithm: of the run.
        aggregator: of the run; adds the operations of its site half.
        trainer: how long and how to train in a round.
        evaluation: how to score.
        personalisation: how to make the finished model the site's own.
        callback: makes the Lightning callback that performs the algorithm's steps.
        callbacks: the user's own; copied for each fit.
        folder: the site's own.
        run: identifier of the run; messages of another run are refused.
        seed: of the run.
        privacy: how to train under sample-level differential privacy; None for as usual.
    """

    def __init__(
        self,
        name: str,
        *,
        template: pl.LightningModule,
        data: FederatedDataModule,
        algorithm: Algorithm,
        aggregator: Aggregator,
        trainer: TrainerOptions,
        evaluation: Evaluation,
        personalisation: Personalisation,
        callback: CallbackFactory,
        callbacks: Sequence[pl.Callback],
        folder: Path,
        run: str,
        seed: int,
        privacy: SamplePrivacy | None = None,
    ) -> None:
        self.name = name
        self.template = template
        self.data = data
        self.algorithm = algorithm
        self.trainer = trainer
        self.evaluation = evaluation
        self.personalisation = personalisation
        self.callback = callback
        self.callbacks = callbacks
        self.run = run
        self.seed = seed
        self.privacy = privacy
        self.store = SiteStore(folder)
        self.layout = algorithm.layout(template)
        self.aggregator = aggregator
        self._received = 0
        self._operations: dict[str, SiteOperation] = {
            "describe": self._describe,
            "load": self._load,
            "train": self._train,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
            **aggregator.site_operations(self),
        }

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        Raises:
            MessageError: the payload is damaged, of another run, or the operation unknown.
        """
        message = Message.decode(payload)
        if message.run != self.run:
            raise MessageError(
                f"Site {self.name!r} takes part in run {self.run!r}, but the message belongs to "
                f"{message.run!r}."
            )
        if op not in self._operations:
            raise MessageError(
                f"Site {self.name!r} knows no operation {op!r}; it knows "
                f"{sorted(self._operations)}."
            )
        if message.recipient not in ("", self.name):
            raise MessageError(
                f"A message for {message.recipient!r} reached site {self.name!r} instead."
            )
        answer = self._operations[op](message)
        return Message(
            run=self.run,
            round=message.round,
            sender=self.name,
            step=message.step,
            info=answer.info,
            tensors=answer.tensors,
            recipient=answer.recipient,
            ring=message.ring,
            context=answer.context,
        ).encode()

    def update(self, round_: int, start: int, stop: int) -> Tensor:
        """A part of the site's update of a round, for the aggregator's site half."""
        return self.store.update(round_, start, stop)

    def samples(self) -> int:
        """The site's training samples."""
        return self.data.sample_count("train")

    def carry(self, round_: int) -> Tensor | None:
        """What updates up to a round left out, for the aggregator's site half.

        Nothing of layers that stay here by now: each of their updates starts from the global
        weights and holds all there is to say.
        """
        carry = self.store.carry(round_)
        private, _ = self.store.private(round_)
        sent_whole = not private.keys().isdisjoint(self.layout.late)
        if carry is None or not (sent_whole or self.algorithm.layers_stay(round_ + 1)):
            return carry
        left_out = from_vector(carry, self.layout)
        return to_vector(left_out | {n: left_out[n] * 0 for n in self.layout.late}, self.layout)

    def save_carry(self, round_: int, carry: Tensor) -> None:
        """Keep what the update of a round left out."""
        self.store.save_carry(round_, carry)

    def module(self, round_: int) -> pl.LightningModule:
        """A copy of the template with the global weights and the private state of a round.

        Raises:
            ValueError: the weights that are here belong to another round.
        """
        module = copy.deepcopy(self.template)
        state: State = from_vector(self.store.weights(round_), self.layout)
        private, _ = self.store.private(round_)
        module.load_state_dict(state | private, strict=False)
        return module

    def averaged_module(self, round_: int) -> pl.LightningModule | None:
        """The model with the sites' mean of layers that have stayed here since some round.

        Returns:
            None where there are no such layers: then it is `module`.

        Raises:
            ValueError: the weights that are here belong to another round.
        """
        private, _ = self.store.private(round_)
        if private.keys().isdisjoint(self.layout.late):
            return None
        module = self.module(round_)
        module.load_state_dict(from_vector(self.store.weights(round_), self.layout), strict=False)
        return module

    def personal_module(self, round_: int) -> pl.LightningModule:
        """The model that personalisation starts from: the site's second one where it has one.

        Raises:
            ValueError: the weights that are here belong to another round.
        """
        module = self.module(round_)
        if self.algorithm.second is not None:
            own, _ = self.store.private(round_, model=SECOND)
            module.load_state_dict(own, strict=False)  # nothing, where the site never trained
        return module

    def train_loader(self, purpose: str, round_: int, *, batches: int) -> DataLoader[Any]:
        """Training batches in an order that (seed, site, round, purpose) decide."""
        seed = derive_seed(self.seed, self.name, round_, purpose)
        return self.data.train_loader(seed=seed, batches_per_step=batches)

    def _describe(self, message: Message) -> Answer:
        """Check everything that can be checked before training, by doing it once."""
        sizes = {part: self.data.sample_count(part) for part in ("train", "val", "test")}
        unseen = self.name in self.data.unseen
        if not unseen and sizes["train"] == 0:
            raise DataError(f"Site {self.name!r} has no training images.")
        self.store.check_split(self.data.split_by_site())
        self.data.check()
        if unseen:
            self.personalisation.check_patients(self.name, len(self.data.split(self.name).train))
        if sizes["train"]:
            if not unseen and self.layout.length:
                self.aggregator.check_site(self)
            self._rehearse()
        found: dict[str, Any] = {"layout": self.layout.fingerprint}
        if not self.aggregator.hides_samples:
            found |= {"samples": sizes, "patients": self.data.patient_counts()}
        return Answer(found, {})

    def _rehearse(self) -> None:
        seed_all(derive_seed(self.seed, self.name, "rehearsal"))
        module = copy.deepcopy(self.template)
        loader = self.train_loader("rehearsal", 0, batches=self.algorithm.batches_per_step)
        if self.privacy is not None:
            check_loss(module, next(iter(loader)))
            self.privacy.check(loader)
        callbacks = [self.callback(self.algorithm)]
        val = self.data.loader("val")
        logged = rehearse(module, loader, val, callbacks, self.trainer)
        if self.evaluation.metric not in logged:
            raise ConfigError(
                f"`evaluation.metric` is {self.evaluation.metric!r}, but the task logs "
                f"{sorted(logged)} in validation and test."
            )

    def _load(self, message: Message) -> Answer:
        """Receive the global weights, in blocks; `blocks` says how many there are."""
        if message.step == 0:
            self._received = 0
        if message.step != self._received:
            raise MessageError(
                f"Site {self.name!r} expected block {self._received} of the weights, but got "
                f"{message.step}; send them from block 0 again."
            )
        blocks = message.info["blocks"]
        if blocks > 1:  # kept in files, so that memory does not grow with the sites
            self.store.save_block(message.step, message.tensors["weights"])
        self._received += 1
        if self._received == blocks:
            weights = self.store.join_blocks(blocks) if blocks > 1 else message.tensors["weights"]
            from_vector(weights, self.layout)  # refuses a wrong length before it is kept
            self.store.save_weights(message.round, weights)
        return Answer({}, {})

    def _train(self, message: Message) -> Answer:
        """Train one round from the global weights; see `LocalRound`."""
        return LocalRound(self, message.round).run(message.info.get("keep", []))

    def _evaluate(self, message: Message) -> Answer:
        """Score the global model, as it is, on the site's validation data."""
        module = self.module(message.round)
        return Answer({"val": evaluate(module, self.data.loader("val"), "val", self.trainer)}, {})

    def _personalise(self, message: Message) -> Answer:
        """The end of a run at this site; see `FinalEvaluation`."""
        if self.name == POOLED:
            raise MessageError("The pooled site trains; it personalises for nobody.")
        return FinalEvaluation(self).run(message.round)
