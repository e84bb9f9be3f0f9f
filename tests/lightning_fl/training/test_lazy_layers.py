"""Lazy layers get their shapes before a run begins."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_fl.data.elsewhere import DataElsewhere
from lightning_fl.errors import ConfigError
from lightning_fl.predict.finished_run import load
from lightning_fl.run.blueprint import Blueprint
from lightning_fl.seeds import derive_seed
from lightning_fl.training.lazy_layers import copy_of, has_lazy_layers, with_lazy_layers_built
from models import Segmentation
from tests.toy import ByHand, ToyModule, toy_experiment, toy_loader, toy_run


class Lazy(ToyModule):
    """The toy whose layers learn the sizes of their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Tanh(), nn.Linear(4, 1))


class LazyByHand(ByHand):
    def __init__(self) -> None:
        super().__init__()
        self.net[0] = nn.LazyLinear(4)


def test_lazy_layers_are_those_of_a_forward_pass_with_the_run_s_seed() -> None:
    task = Lazy()
    built = with_lazy_layers_built(task, toy_loader(4), 7)
    torch.manual_seed(derive_seed(7, "lazy layers"))
    expected = copy_of(task).get_submodule("net").eval()
    expected(torch.zeros(4, 3))
    torch.testing.assert_close(built.get_submodule("net").state_dict(), expected.state_dict())
    assert type(built.get_submodule("net.0")) is nn.Linear
    assert float(built.get_buffer("net.1.num_batches_tracked")) == 0  # nothing was learnt
    assert has_lazy_layers(task)
    assert not has_lazy_layers(built)


def test_the_batch_changes_nothing_but_shapes() -> None:
    task = Lazy()
    one, other = (with_lazy_layers_built(task, toy_loader(n, seed=n), 0) for n in (2, 8))
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_task_without_lazy_layers_is_left_alone_and_no_batch_is_drawn() -> None:
    task = ToyModule()
    assert with_lazy_layers_built(task, [], 0) is task


def test_scores_begin_empty() -> None:
    image, mask = torch.randn(2, 1, 8, 8), torch.ones(2, 8, 8, dtype=torch.int64)
    task = Segmentation(nn.LazyConv2d(1, 3, padding=1))
    built = with_lazy_layers_built(task, [{"image": image, "mask": mask}], 0)
    assert not any(metric.update_called for metric in built.val_scores.values())  # type: ignore[operator]


def test_a_run_with_lazy_layers_trains_and_gives_its_models(tmp_path: Path) -> None:
    experiment = toy_experiment(module=Lazy())
    first, second = (Blueprint(replace(experiment)) for _ in range(2))
    assert first.layout == second.layout
    torch.testing.assert_close(first.template.state_dict(), second.template.state_dict())
    toy_run(tmp_path, experiment).start()
    model = load(tmp_path, experiment.task).model("A")
    assert not torch.equal(
        model.get_parameter("net.0.weight"), first.template.get_parameter("net.0.weight")
    )


def test_where_the_data_are_elsewhere_lazy_layers_are_refused() -> None:
    experiment = toy_experiment(module=Lazy(), data=DataElsewhere(["A", "B", "C"]))
    with pytest.raises(ConfigError, match=r"lazy layer .* hospitals elsewhere"):
        Blueprint(experiment)
    with pytest.raises(ConfigError, match=r"lazy layer"):
        Blueprint(toy_experiment(module=Lazy()), ["A", "B", "C"])  # as a hospital builds it


def test_a_step_that_needs_a_trainer_is_told() -> None:
    with pytest.raises(ConfigError, match=r"lazy layers of LazyByHand .* input sizes"):
        with_lazy_layers_built(LazyByHand(), toy_loader(4), 0)
