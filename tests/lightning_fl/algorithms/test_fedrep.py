import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from callbacks import FederatedCallback
from lightning_fl.algorithms import FedRep
from lightning_fl.errors import ConfigError
from tests.lightning_fl.algorithms.by_hand import (
    assert_close,
    federation_by_hand,
    sgd,
    toy_states,
)
from tests.toy import ToyModule, quiet_trainer, toy_loader

HEAD_STEPS = 2


def local_round(module: ToyModule, batches: Sequence[Any]) -> None:
    """Algorithm 1: tau steps of GRD on the head, the rest on the representation."""
    head = list(module.net[3].parameters())
    rest = [p for name, p in module.named_parameters() if not name.startswith("net.3.")]
    for part, own in ((head, batches[:HEAD_STEPS]), (rest, batches[HEAD_STEPS:])):
        optimizer = sgd(module, part)
        for batch in own:
            module.zero_grad()
            torch.autograd.backward(module.loss(batch))
            optimizer.step()


def test_it_equals_a_hand_written_federation(tmp_path: Path) -> None:
    run, states = toy_states(tmp_path, FedRep(HEAD_STEPS, personal=["3"]))
    assert_close(states, federation_by_hand(run, local_round))


def test_heads_stay_and_differ_while_the_rest_is_one(tmp_path: Path) -> None:
    run, states = toy_states(tmp_path, FedRep(1, personal=["3"]))
    assert not [name for name, _ in run.blueprint.layout.shared if name.startswith("net.3")]
    a, b, _ = states.values()
    assert not torch.equal(a["net.3.weight"], b["net.3.weight"])
    for name, _ in run.blueprint.layout.shared:
        assert torch.equal(a[name], b[name])


class Decaying(ToyModule):
    """Its optimiser would move weights without a gradient, if that were zero and not None."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.1, weight_decay=0.5)


class Watch(pl.Callback):
    """Says after each step which entries it has changed."""

    def __init__(self) -> None:
        self.changed: list[set[str]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.before = copy.deepcopy(pl_module.state_dict())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        state = pl_module.state_dict()
        self.changed.append({n for n, v in state.items() if not torch.equal(v, self.before[n])})


def changed(module: ToyModule, algorithm: FedRep, **settings: Any) -> list[set[str]]:
    watch = Watch()
    trainer = quiet_trainer(callbacks=[FederatedCallback(algorithm), watch], **settings)
    trainer.fit(module, toy_loader(4))
    return watch.changed


def watched(module: ToyModule, algorithm: FedRep, **settings: Any) -> list[set[str]]:
    steps = changed(module, algorithm, **settings)
    return [{name.rpartition(".")[0] for name in entries} for entries in steps]


def test_each_phase_moves_its_part_alone_under_momentum_and_weight_decay() -> None:
    algorithm, module = FedRep(2, personal=["net.3"]), Decaying()
    for _ in range(2):  # the count begins again with every fit
        assert watched(module, algorithm) == [{"net.3"}] * 2 + [{"net.0"}] * 4


def test_steps_are_counted_and_not_batches() -> None:
    moved = watched(Decaying(), FedRep(1, personal=["3"]), accumulate_grad_batches=2)
    assert moved == [set(), {"net.3"}, set(), {"net.0"}, set(), {"net.0"}]


@pytest.mark.parametrize(
    ("batch_norm", "weight", "statistics"),
    [
        ("average", [False, True], [True, True]),
        ("local", [True, False], [True, True]),
        ("freeze", [False, True], [False, False]),
    ],
)
def test_batch_norm_statistics_follow_both_phases_and_its_weights_one(
    batch_norm: Any, weight: list[bool], statistics: list[bool]
) -> None:
    algorithm = FedRep(1, personal=["3"], batch_norm=batch_norm)
    steps = changed(ToyModule(batch_norm=True), algorithm)[:2]
    assert ["net.1.weight" in entries for entries in steps] == weight
    assert ["net.1.running_mean" in entries for entries in steps] == statistics


def test_a_scaler_and_clipping_work_with_a_part_held() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "gradient_clip_val": 0.1}
    moved = watched(ToyModule(momentum=0.9), FedRep(3, personal=["3"]), **settings)
    assert moved == [{"net.3"}] * 3 + [{"net.0"}] * 3


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="`head_steps` to be at least 1, but got 0"):
        FedRep(0)
    with pytest.raises(ConfigError, match=r"`personal` is empty\. Name at least one layer"):
        FedRep(personal=[])


@pytest.mark.parametrize("steps", [4, 5])
def test_a_round_without_a_step_for_the_shared_layers_is_refused(steps: int) -> None:
    algorithm = FedRep(5, personal=["3"])
    with pytest.raises(ConfigError, match=f"`head_steps` is 5, but a round has {steps} steps"):
        watched(ToyModule(), algorithm, max_steps=steps, max_epochs=-1)
    assert watched(ToyModule(), algorithm, max_steps=6, max_epochs=-1)[5] == {"net.0"}


class Lbfgs(ToyModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


def test_an_optimiser_whose_steps_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ConfigError, match="FedRep cannot use LBFGS"):
        watched(Lbfgs(), FedRep(1, personal=["3"]))
