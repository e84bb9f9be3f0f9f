"""A hospital in a run: its LightningModule, data and private state behind a boundary of bytes."""

import copy
from pathlib import Path
from typing import Any

import torch

from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.data.module import POOLED, FederatedDataModule
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.privacy.fitness import check_loss
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.site.final import FinalEvaluation
from lightning_fl.site.local_state import LocalState
from lightning_fl.site.round import LocalRound
from lightning_fl.site.setup import SiteSetup
from lightning_fl.site.store import SiteStore
from lightning_fl.training.case_scores import ScoreImages
from lightning_fl.training.fitting import evaluate
from lightning_fl.training.layout import from_vector
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
        self._received_blocks = 0
        self._operations: dict[str, SiteOperation] = {
            "describe": self._describe,
            "load": self._load,
            "train": self._train,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
            **setup.aggregator.site_operations(self.state),
        }

    def handle(self, op: str, payload: bytes) -> bytes:
        """Answer one operation.

        Raises:
            MessageError: the payload is damaged, of another run, or the operation unknown.
        """
        return handle_message(self.name, self.setup.run, self._operations, op, payload)

    def _describe(self, message: Message) -> Answer:
        """Check everything that can be checked before training, by doing it once."""
        data, aggregator = self.state.data, self.setup.aggregator
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
            self._rehearse()
        info: dict[str, Any] = {"layout": self.setup.layout.fingerprint}
        if not aggregator.hides_samples:
            info |= {"samples": sizes, "patients": data.patient_counts()}
        return Answer(info, {})

    def _rehearse(self) -> None:
        """Train and validate one batch on a copy that is thrown away."""
        setup, state = self.setup, self.state
        seed_all(derive_seed(setup.seed, self.name, "rehearsal"))
        module = copy.deepcopy(setup.template)
        loader = state.train_loader("rehearsal", 0, batches=setup.algorithm.batches_per_step)
        if setup.privacy is not None:
            check_loss(module, next(iter(loader)))
            setup.privacy.check(loader)
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

    def _load(self, message: Message) -> Answer:
        """Receive the global weights, in blocks; `blocks` says how many there are."""
        store = self.state.store
        self._check_weights(message)
        if message.step == 0:
            self._received_blocks = 0
        if message.step != self._received_blocks:
            raise MessageError(
                f"Site {self.name!r} expected block {self._received_blocks} of the weights, but "
                f"got {message.step}; send them from block 0 again."
            )
        blocks = message.info["blocks"]
        if blocks > 1:  # kept in files, so that memory does not grow with the sites
            store.save_block(message.step, message.tensors["weights"])
        self._received_blocks += 1
        if self._received_blocks == blocks:
            weights = store.join_blocks(blocks) if blocks > 1 else message.tensors["weights"]
            from_vector(weights, self.setup.layout)  # refuses a wrong length before it is kept
            store.save_weights(message.round, weights)
        return Answer({}, {})

    def _check_weights(self, message: Message) -> None:
        """Refuse a block of weights that no round of this run can have sent.

        Raises:
            MessageError: says what is wrong with it.
        """
        rounds, blocks = self.setup.rounds, message.info.get("blocks")
        if message.round > rounds:
            raise MessageError(f"Weights of round {message.round}, but the run has {rounds}.")
        most = max(1, self.setup.layout.length)
        if type(blocks) is not int or not 1 <= blocks <= most:
            raise MessageError(f"Expected weights in 1 to {most} blocks, but got {blocks!r}.")
        block = message.tensors.get("weights")
        if set(message.tensors) != {"weights"} or block is None:
            raise MessageError(f"Expected one tensor `weights`, but got {sorted(message.tensors)}.")
        if block.dtype != torch.float32 or block.dim() != 1 or len(block) > most:
            raise MessageError(
                f"Expected up to {most} float32 values in a row, but got {block.dtype} of shape "
                f"{tuple(block.shape)}."
            )
        if not bool(torch.isfinite(block).all()):
            raise MessageError(f"Block {message.step} of the weights holds NaN or infinity.")

    def _train(self, message: Message) -> Answer:
        """Train one round from the global weights; see `LocalRound`."""
        return LocalRound(self.state, message.round).run(message.info.get("keep", []))

    def _evaluate(self, message: Message) -> Answer:
        """Score the global model, as it is, on the site's validation data."""
        module, loader = self.state.module(message.round), self.state.data.loader("val")
        return Answer({"val": evaluate(module, loader, "val", self.setup.trainer)}, {})

    def _personalise(self, message: Message) -> Answer:
        """Personalise and test at the end of a run; see `FinalEvaluation`."""
        if self.name == POOLED:
            raise MessageError("The pooled site trains; it personalises for nobody.")
        return FinalEvaluation(self.state).run(message.round)
