"""What holds for every method alike."""

from pathlib import Path
from typing import Any

import pytest
import torch

import lightning_fl.algorithms as methods
from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import (
    Algorithm,
    Ditto,
    FedAvg,
    FedPer,
    FedProx,
    FedRep,
    LateLocal,
    PerFedAvg,
    Scaffold,
    ServerAdam,
    ServerMomentum,
)
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Personalisation
from lightning_fl.results.tables import read_metrics
from lightning_fl.run.experiment import Experiment
from lightning_fl.training.fitting import TrainerOptions
from tests.lightning_fl.algorithms.by_hand import ENDS, toy_states
from tests.lightning_fl.run.resuming import interrupted_at, left_by_training, stopped_and_resumed
from tests.toy import SITES, ToyModule, rounds_alone, toy_experiment, toy_run

SHARING: list[Algorithm] = [
    FedAvg(),
    FedAvg(personal=["3"], batch_norm="local", shared_rounds=1),
    FedAvg(server=ServerAdam()),
    FedPer(personal=["3"]),
    LateLocal(personal=["3"]),
    FedProx(0.1),
    FedRep(1, personal=["3"]),
    PerFedAvg(0.01, batch_norm="local"),
    Ditto(0.1),
    Scaffold(personal=["3"], server=ServerMomentum(momentum=0.5)),
]


def test_no_method_is_left_out_here() -> None:
    known = {c for c in vars(methods).values() if isinstance(c, type) and issubclass(c, Algorithm)}
    alone = {Algorithm, methods.Local, methods.Centralised}
    assert {type(algorithm) for algorithm in SHARING} == known - alone


@pytest.mark.parametrize("algorithm", SHARING, ids=lambda a: type(a).__name__)
def test_a_resumed_run_equals_one_that_was_not_killed(tmp_path: Path, algorithm: Algorithm) -> None:
    def made() -> Experiment:
        torch.manual_seed(0)
        module = ToyModule(batch_norm=True, momentum=0.9, lr=0.05)
        return toy_experiment(
            module=module,
            algorithm=algorithm,
            rounds=3,
            sites_per_round=2,
        )

    rounds_alone(tmp_path / "whole", made()).start()
    resumed = stopped_and_resumed(tmp_path / "killed", made, "train", 2, rounds_alone)
    assert left_by_training(tmp_path / "killed") == left_by_training(tmp_path / "whole")
    assert bool(resumed.state().server) == (getattr(algorithm, "server", None) is not None)


@pytest.mark.parametrize("algorithm", SHARING, ids=lambda a: type(a).__name__)
def test_the_ring_gives_what_plain_gives(tmp_path: Path, algorithm: Algorithm) -> None:
    """To within the grid of 2^-24 and what two rounds of training make of it."""
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True, lr=0.05)
    plain, expected = toy_states(tmp_path / "plain", algorithm, module=module)
    ring, found = toy_states(tmp_path / "ring", algorithm, module=module, aggregator=CyclicCKKS())
    torch.testing.assert_close(ring.state().weights, plain.state().weights, rtol=0, atol=2e-5)
    for site, state in expected.items():
        torch.testing.assert_close(found[site], state, rtol=0, atol=2e-5)


class Decaying(ToyModule):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5], gamma=0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


@pytest.mark.parametrize("algorithm", SHARING, ids=lambda a: type(a).__name__)
def test_steps_and_rates_of_rounds_are_those_of_one_plain_loop(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    """Two rounds of three steps: the rate is halved after step 2 and again after step 5."""
    module = Decaying(batch_norm=True)
    rounds_alone(tmp_path, toy_experiment(module=module, algorithm=algorithm)).start()
    rows = read_metrics(tmp_path / "metrics.csv")
    rates = {row[:2]: row.value for row in rows if row.metric == "lr"}
    assert rates == {(r, site): {1: 0.05, 2: 0.025}[r] for r in (1, 2) for site in SITES}
    samples = {row.value for row in rows if row.metric == "samples"}
    assert samples == {12.0}  # of three steps with four samples each


class Lbfgs(ToyModule):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    "algorithm", [FedProx(), FedRep(1, personal=["3"]), PerFedAvg(), Ditto(), Scaffold()]
)
def test_methods_that_count_steps_refuse_lbfgs_before_the_first_round(
    tmp_path: Path, algorithm: Any
) -> None:
    run = toy_run(tmp_path, toy_experiment(algorithm=algorithm, module=Lbfgs()))
    with pytest.raises(Exception, match="cannot use LBFGS") as caught:
        run.start()
    assert isinstance(caught.value.__cause__, ConfigError)


def gradients(folder: Path, **settings: Any) -> Any:
    settings = {"personalisation": Personalisation([]), "evaluation": ENDS} | settings
    results = toy_run(folder, toy_experiment(**settings)).start()
    return results["costs"]["gradients"]["train"]


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [(FedAvg(), 18), (PerFedAvg(0.01), 36), (Ditto(), 36), (methods.Local(), 18)],
)
def test_gradients_are_steps_times_gradients_a_step_over_all_sites(
    tmp_path: Path, algorithm: Algorithm, expected: int
) -> None:
    """Two rounds of three steps at three sites."""
    assert gradients(tmp_path, algorithm=algorithm) == expected


def test_the_pooled_site_counts_for_itself(tmp_path: Path) -> None:
    assert gradients(tmp_path, algorithm=methods.Centralised()) == 6


def test_gradients_of_epochs_follow_the_sites_own_batches(tmp_path: Path) -> None:
    trainer = TrainerOptions(local_epochs=1, accelerator="cpu")
    nothing = Personalisation([])
    run = toy_run(tmp_path, toy_experiment(trainer=trainer, rounds=1, personalisation=nothing))
    batches = [
        len(run.make_site(s).state.train_loader("", 0, batches=1))
        for s in run.blueprint.plan.training
    ]
    assert run.start()["costs"]["gradients"]["train"] == sum(batches)


def test_sites_that_hide_their_samples_say_no_gradients(tmp_path: Path) -> None:
    ring = CyclicCKKS(weights="hidden")
    assert gradients(tmp_path, aggregator=ring, rounds=1) is None


def test_a_resumed_run_counts_no_gradient_twice(tmp_path: Path) -> None:
    with interrupted_at("train", 2):
        gradients(tmp_path, rounds=3)
    assert gradients(tmp_path, rounds=3) == 3 * 3 * 3
