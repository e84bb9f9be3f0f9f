"""Fine-tuning against plain loops by hand."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_fl.algorithms import FedAvg
from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import BatchNormReestimation, FineTune, LocalModel
from lightning_fl.personalisation.fitted_layers import fitted_entries
from lightning_fl.training.fitting import TrainerOptions
from tests.lightning_fl.personalisation.benches import (
    assert_same,
    path_by_hand,
    toy_bench,
    toy_module,
)
from tests.toy import ToyHospitals, ToyModule


def test_snapshots_lie_on_the_path_of_one_fit(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module())
    before = copy.deepcopy(bench.start.state_dict())
    variants = FineTune([5, 2], 0.05).variants(bench, [])
    path = path_by_hand(bench, 5, lambda step: 0.05)
    assert [v.name for v in variants] == ["finetune@2", "finetune@5"]
    for variant in variants:
        assert_same(variant.module.state_dict(), path[variant.steps])
    assert_same(bench.start.state_dict(), before)
    assert bench.gradients == 5
    assert bench.finetuned == {5: variants[-1].module}


def test_gradients_are_backward_passes_not_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = TrainerOptions(local_steps=1, accelerator="cpu", accumulate_grad_batches=2)
    data = ToyHospitals({"A": 9, "B": 6, "C": 5}, batch_size=3)  # five batches at A
    bench = toy_bench(tmp_path, toy_module(), trainer=trainer, data=data)
    passes: list[int] = []
    original = ToyModule.training_step

    def counted(self: ToyModule, batch: Any, batch_idx: int) -> Any:
        passes.append(batch_idx)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(ToyModule, "training_step", counted)
    FineTune([2], 0.05).variants(bench, [])
    assert bench.gradients == len(passes) == 4


def test_null_rate_is_the_tasks_own(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module(lr=0.03))
    [variant] = FineTune([3], None).variants(bench, [])
    assert_same(variant.module.state_dict(), path_by_hand(bench, 3, lambda step: 0.03)[3])


class WarmUp(ToyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 3)]


def test_null_rate_is_the_tasks_own_and_not_that_of_its_warm_up(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, WarmUp(lr=0.03))
    [variant] = FineTune([3], None).variants(bench, [])
    assert_same(variant.module.state_dict(), path_by_hand(bench, 3, lambda step: 0.03)[3])


def test_cosine_falls_to_zero_at_the_last_step(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module())
    variants = FineTune([2, 6], 0.1, schedule="cosine").variants(bench, [])
    path = path_by_hand(bench, 6, lambda step: 0.1 * (1 + math.cos(math.pi * step / 6)) / 2)
    for variant in variants:
        assert_same(variant.module.state_dict(), path[variant.steps])


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_average_is_the_mean_of_the_second_half_of_the_path(tmp_path: Path, steps: int) -> None:
    bench = toy_bench(tmp_path, toy_module())
    [variant] = FineTune([steps], 0.05, average=True).variants(bench, [])
    half = path_by_hand(bench, steps, lambda step: 0.05)[steps // 2 + 1 :]
    mean = {name: torch.stack([s[name] for s in half]).mean(0) for name in half[0]}
    assert_same(variant.module.state_dict(), mean)


def test_finetuned_is_the_plain_last_snapshot_also_where_the_average_is_offered(
    tmp_path: Path,
) -> None:
    bench = toy_bench(tmp_path, toy_module())
    FineTune([2, 4], 0.05, average=True).variants(bench, [])
    plain = path_by_hand(bench, 4, lambda step: 0.05)[4]
    assert_same(bench.finetuned[4].state_dict(), plain)
    FineTune([9], 0.05, layers=["net.0"]).variants(bench, [])
    assert list(bench.finetuned) == [4]


def test_the_averages_batch_norm_is_that_of_the_sites_images(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module(batch_norm=True))
    [variant] = FineTune([4], 0.05, average=True).variants(bench, [])
    [(x, _)] = bench.task.data.train_loader()
    module = variant.module
    assert isinstance(module, ToyModule)
    hidden = module.net[0](x).detach()
    torch.testing.assert_close(module.net[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(module.net[1].running_var, hidden.var(0))


def test_a_run_that_freezes_batch_norm_keeps_its_statistics_in_the_average(
    tmp_path: Path,
) -> None:
    algorithm = FedAvg(batch_norm="freeze")
    bench = toy_bench(tmp_path, toy_module(batch_norm=True), algorithm=algorithm)
    [variant] = FineTune([4], 0.05, average=True).variants(bench, [])
    assert float(variant.module.state_dict()["net.1.running_mean"].abs().max()) == 0


@pytest.mark.parametrize(
    ("layers", "trained"),
    [("head", "net.3."), ("norm", "net.1."), (["net.0"], "net.0."), (["0"], "net.0.")],
)
def test_all_but_the_named_layers_stay_as_they_came(
    tmp_path: Path, layers: Any, trained: str
) -> None:
    bench = toy_bench(tmp_path, toy_module(batch_norm=True))
    [variant] = FineTune([3], 0.05, layers=layers).variants(bench, [])
    after, before = variant.module.state_dict(), bench.start.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if name.startswith(trained)}
    assert all(p.requires_grad for p in variant.module.parameters())


def test_head_is_the_layer_called_segmentation_head_wherever_it_stands() -> None:
    net = nn.ModuleDict({"segmentation_head": nn.Conv2d(1, 1, 1), "encoder": nn.Conv2d(1, 1, 1)})
    module = nn.ModuleDict({"net": net})
    found = fitted_entries(module, "head")
    assert found == {"net.segmentation_head.weight", "net.segmentation_head.bias"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("norm", "`layers: norm` names no layer of ToyModule with trainable weights"),
        (["net.9"], "`layers` has 'net.9', which matches no layer with weights"),
        (["net"], r"names every trainable weight of ToyModule. Say `layers: all`"),
    ],
)
def test_layers_that_are_none_or_all_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FineTune(layers=layers).check(toy_module(), [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FineTune([]), r"`steps` to be numbers from 1 on, but got \[\]"),
        (lambda: FineTune([0, 5]), r"but got \[0, 5\]"),
        (lambda: FineTune(lr=0), "FineTune's `lr` to be positive or null, but got 0"),
        (lambda: FineTune(layers="decoder"), r"but got 'decoder'. Write \['decoder'\]"),
        (lambda: LocalModel(0), "LocalModel's `steps` to be at least 1, but got 0"),
        (lambda: LocalModel(5, -1.0), "LocalModel's `lr` to be positive or null, but got -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_local_model_is_trained_alone_from_the_weights_the_run_began_with(
    tmp_path: Path,
) -> None:
    bench = toy_bench(tmp_path, toy_module())
    began = bench.start
    bench.start = toy_module()
    nn.init.ones_(bench.start.get_parameter("net.0.weight"))  # what came out of the federation
    [variant] = LocalModel(3, 0.05).variants(bench, [])
    bench.start = began
    assert_same(variant.module.state_dict(), path_by_hand(bench, 3, lambda step: 0.05)[3])
    assert variant.is_reference
    assert bench.gradients == 3


def test_reestimating_batch_norm_changes_statistics_alone_and_takes_no_gradient(
    tmp_path: Path,
) -> None:
    bench = toy_bench(tmp_path, toy_module(batch_norm=True))
    [variant] = BatchNormReestimation().variants(bench, [])
    after, before = variant.module.state_dict(), bench.start.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {f"net.1.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")}
    assert bench.gradients == 0
