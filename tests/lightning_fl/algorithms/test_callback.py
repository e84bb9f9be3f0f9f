import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import SumMetric

from callbacks import FederatedCallback
from lightning_fl.algorithms import Algorithm, FedAvg, PerFedAvg
from lightning_fl.algorithms.per_fedavg import Order
from lightning_fl.errors import ConfigError
from tests.toy import ByHand, ToyModule, quiet_trainer, toy_data, toy_loader

ALPHA, BETA, SIZE = 0.05, 0.1, 4


def fit(module: pl.LightningModule, algorithm: Algorithm, **settings: Any) -> pl.Trainer:
    trainer = quiet_trainer(callbacks=[FederatedCallback(algorithm)], **settings)
    trainer.fit(module, toy_loader(SIZE * algorithm.batches_per_step))
    return trainer


def gradient(module: ToyModule, batch: Any) -> list[Tensor]:
    return list(torch.autograd.grad(module.loss(batch), list(module.parameters())))


def shift(module: nn.Module, direction: Sequence[Tensor], scale: float) -> None:
    with torch.no_grad():
        for parameter, step in zip(module.parameters(), direction, strict=True):
            parameter.add_(step, alpha=scale)


def hand_loop(module: ToyModule, order: Order) -> None:
    """Per-FedAvg as the paper writes it, in autograd, without Lightning."""
    parts = 2 if order == "first" else 3
    data = toy_data()
    for start in range(0, len(data), SIZE * parts):
        query, support, *rest = (
            data[start + SIZE * i : start + SIZE * (i + 1)] for i in range(parts)
        )
        before = copy.deepcopy(module)
        shift(module, gradient(module, support), -ALPHA)
        outer = gradient(module, query)
        module.load_state_dict(before.state_dict())
        if order != "first":
            parameters = list(module.parameters())
            first = torch.autograd.grad(module.loss(rest[0]), parameters, create_graph=True)
            product = sum((g * v).sum() for g, v in zip(first, outer, strict=True))
            hessian = torch.autograd.grad(cast(Tensor, product), parameters)
            outer = [g - ALPHA * h for g, h in zip(outer, hessian, strict=True)]
        shift(module, outer, -BETA)


def pair() -> tuple[ToyModule, ToyModule]:
    torch.manual_seed(0)
    module = ToyModule(lr=BETA)
    return module, copy.deepcopy(module)


def largest_difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


@pytest.mark.parametrize("order", ["first", "exact"])
def test_per_fedavg_equals_a_hand_written_loop(order: Order) -> None:
    module, reference = pair()
    fit(module, PerFedAvg(ALPHA, order))
    hand_loop(reference, order)
    assert largest_difference(module, reference) < 1e-7


def test_hessian_free_agrees_with_exact_second_order() -> None:
    module, reference = pair()
    fit(module, PerFedAvg(ALPHA, "hessian_free"))
    fit(reference, PerFedAvg(ALPHA, "exact"))
    assert largest_difference(module, reference) < 1e-6


def test_second_order_differs_from_first_order() -> None:
    module, reference = pair()
    fit(module, PerFedAvg(ALPHA, "exact"))
    hand_loop(reference, "first")
    assert largest_difference(module, reference) > 1e-4


def test_vanishing_inner_rate_equals_plain_training_on_the_first_part() -> None:
    module, reference = pair()
    fit(module, PerFedAvg(1e-12, "first"))
    data = toy_data()
    for start in range(0, len(data), 2 * SIZE):
        shift(reference, gradient(reference, data[start : start + SIZE]), -BETA)
    assert largest_difference(module, reference) < 1e-6


def test_fedavg_callback_changes_nothing() -> None:
    module, reference = pair()
    fit(module, FedAvg())
    quiet_trainer().fit(reference, toy_loader(SIZE))
    assert largest_difference(module, reference) == 0


def test_training_step_sees_the_first_part_only_and_logs_once() -> None:
    module, _ = pair()
    trainer = fit(module, PerFedAvg(ALPHA, "exact"))
    # per batch: the support pass, Lightning's pass, the Hessian pass, each of SIZE samples
    assert module.seen == [SIZE] * (3 * 2)
    assert trainer.global_step == 2
    assert set(trainer.callback_metrics) == {"train/loss"}


@pytest.mark.parametrize("order", ["first", "exact", "hessian_free"])
def test_batch_norm_statistics_follow_lightnings_own_pass_alone(order: Order) -> None:
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True)
    fit(module, PerFedAvg(ALPHA, order), max_steps=1)
    norm = cast(nn.BatchNorm1d, module.net[1])
    assert int(norm.num_batches_tracked or 0) == 1

    torch.manual_seed(0)
    reference = ToyModule(batch_norm=True)
    data = toy_data()
    support = data[SIZE : 2 * SIZE]
    shifted = copy.deepcopy(reference)
    shift(shifted, gradient(shifted, support), -ALPHA)
    fresh = cast(nn.BatchNorm1d, shifted.net[1])
    fresh.reset_running_stats()
    shifted.loss(data[:SIZE])
    torch.testing.assert_close(norm.running_mean, fresh.running_mean)
    torch.testing.assert_close(norm.running_var, fresh.running_var)


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_weights() -> None:
    torch.manual_seed(0)
    module = ToyModule(batch_norm=True)
    before = copy.deepcopy(module.net[1].state_dict())
    fit(module, FedAvg(batch_norm="freeze"), max_epochs=3)
    after = module.net[1].state_dict()
    assert torch.equal(before["running_mean"], after["running_mean"])
    assert torch.equal(before["running_var"], after["running_var"])
    assert not torch.equal(before["weight"], after["weight"])


def test_clipping_acts_on_the_meta_gradient() -> None:
    module, reference = pair()
    start = copy.deepcopy(module)
    fit(module, PerFedAvg(ALPHA, "exact"), max_steps=1, gradient_clip_val=0.01)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(module.parameters(), start.parameters(), strict=True)]
    )
    torch.testing.assert_close(moved.norm(), torch.tensor(BETA * 0.01), rtol=1e-3, atol=0)
    fit(reference, PerFedAvg(ALPHA, "exact"), max_steps=1)
    assert largest_difference(module, reference) > 1e-3


@pytest.mark.parametrize("order", ["first", "exact", "hessian_free"])
def test_runs_under_mixed_precision(order: Order) -> None:
    module, reference = pair()
    fit(module, PerFedAvg(ALPHA, order), precision="bf16-mixed")
    fit(reference, PerFedAvg(ALPHA, order))
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert 0 < largest_difference(module, reference) < 0.05


def test_adam_takes_the_meta_gradient() -> None:
    class WithAdam(ToyModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    module = WithAdam()
    start = copy.deepcopy(module)
    fit(module, PerFedAvg(ALPHA), max_steps=1)
    steps = [(a - b).abs() for a, b in zip(module.parameters(), start.parameters(), strict=True)]
    # Adam's first step moves every weight by its rate
    torch.testing.assert_close(torch.cat([s.flatten() for s in steps]).max(), torch.tensor(0.01))


def test_unused_and_frozen_parameters_are_left_alone() -> None:
    torch.manual_seed(0)
    module = ToyModule()
    module.spare = nn.Linear(2, 2)
    cast(nn.Linear, module.net[0]).weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    fit(module, PerFedAvg(ALPHA, "exact"))
    after = module.state_dict()
    for name in ("spare.weight", "net.0.weight"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["net.0.bias"], after["net.0.bias"])


def test_a_layer_without_second_derivative_names_the_remedy() -> None:
    module = ToyModule()
    module.net.append(nn.Hardsigmoid())
    with pytest.raises(ConfigError, match=r"hardsigmoid_backward.*Use `order: first`"):
        fit(module, PerFedAvg(ALPHA, "exact"))


def test_an_index_of_any_name_is_passed() -> None:
    class Unnamed(ToyModule):
        def training_step(self, batch: Any, _: int) -> Tensor:
            return self.loss(batch)

    class Alone(ToyModule):
        def training_step(self, batch: Any) -> Tensor:  # type: ignore[override]
            return self.loss(batch)

    for module in (Unnamed(), Alone()):
        assert fit(module, PerFedAvg(ALPHA)).global_step == 3


def test_the_loader_gets_its_batches_back() -> None:
    batches = [[x.clone() for x in batch] for batch in toy_loader(2 * SIZE)]
    trainer = quiet_trainer(callbacks=[FederatedCallback(PerFedAvg(ALPHA))], max_epochs=4)
    trainer.fit(ToyModule(), DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    for batch, original in zip(batches, toy_loader(2 * SIZE), strict=True):
        assert torch.equal(batch[0], original[0])


def test_extra_passes_leave_metrics_and_reassigned_buffers_alone() -> None:
    class Counting(ToyModule):
        def __init__(self) -> None:
            super().__init__()
            self.samples = SumMetric()
            self.passes: Tensor
            self.register_buffer("passes", torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.samples.update(len(batch[0]))
            self.passes = self.passes + 1
            return self.loss(batch)

    module = Counting()
    fit(module, PerFedAvg(ALPHA, "exact"))
    assert float(module.samples.compute()) == 2 * SIZE
    assert float(module.passes) == 2


def test_a_step_that_is_skipped_or_fails_leaves_the_weights_before_it() -> None:
    class Skipping(ToyModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int:
            return -1

    class Breaking(ToyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if len(self.seen) == 1:
                raise ValueError("broken")
            return super().training_step(batch, batch_idx)

    for module in (Skipping(), Breaking()):
        start = copy.deepcopy(module)
        with suppress(ValueError):
            fit(module, PerFedAvg(ALPHA))
        assert largest_difference(module, start) == 0


def test_manual_optimization_is_refused_by_per_fedavg_and_works_with_fedavg() -> None:
    with pytest.raises(ConfigError, match=r"ByHand's gradient .* Use automatic optimization"):
        fit(ByHand(), PerFedAvg(ALPHA))
    fit(ByHand(), FedAvg())


def test_gradient_accumulation_is_refused_by_per_fedavg_and_works_with_fedavg() -> None:
    with pytest.raises(ConfigError, match="accumulate_grad_batches is 2"):
        fit(ToyModule(), PerFedAvg(ALPHA), accumulate_grad_batches=2)
    assert fit(ToyModule(), FedAvg(), accumulate_grad_batches=2).global_step == 3


def test_lbfgs_is_refused() -> None:
    class WithLBFGS(ToyModule):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.LBFGS(self.parameters())

    with pytest.raises(ConfigError, match="cannot use LBFGS"):
        fit(WithLBFGS(), PerFedAvg(ALPHA))


def test_a_batch_too_small_to_cut_names_the_remedy() -> None:
    trainer = quiet_trainer(callbacks=[FederatedCallback(PerFedAvg(ALPHA))])
    with pytest.raises(ConfigError, match="batch of 1 samples cannot be cut into 2 disjoint"):
        trainer.fit(ToyModule(), toy_loader(1))


def test_one_callback_serves_fit_after_fit() -> None:
    callback = FederatedCallback(PerFedAvg(ALPHA))
    for _ in range(2):
        module, reference = pair()
        quiet_trainer(callbacks=[callback]).fit(module, toy_loader(2 * SIZE))
        hand_loop(reference, "first")
        assert largest_difference(module, reference) < 1e-7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("order", ["first", "exact", "hessian_free"])
def test_runs_on_a_gpu(order: Order, precision: Any) -> None:
    module, reference = pair()
    fit(module, PerFedAvg(ALPHA, order), accelerator="gpu", devices=1, precision=precision)
    hand_loop(reference, "first" if order == "first" else "exact")
    assert largest_difference(module, reference) < 0.05
