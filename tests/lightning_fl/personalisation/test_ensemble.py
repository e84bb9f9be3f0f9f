"""Means of outputs and of weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation import Candidate, Ensemble, FineTune, Interpolate, Personalisation
from lightning_fl.personalisation.ensemble import average_outputs
from models import Segmentation
from tests.lightning_fl.personalisation.benches import assert_same, toy_bench, toy_module
from tests.toy import ToyModule, toy_experiment, toy_run


class Averageable(ToyModule):
    """A toy whose output is its own probability."""

    def output_maps(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        return torch.clone, torch.clone


def segmentations(classes: int, count: int = 3) -> list[Segmentation]:
    torch.manual_seed(0)
    return [Segmentation(nn.Conv2d(1, classes, 3), classes=classes) for _ in range(count)]


@pytest.mark.parametrize("classes", [1, 4])
def test_the_ensembles_probability_is_the_mean_of_its_members(classes: int) -> None:
    members = segmentations(classes)
    images = 3 * torch.randn(2, 1, 8, 8)
    to_probabilities, _ = members[0].output_maps()
    expected = torch.stack([to_probabilities(m(images)) for m in members]).mean(0)
    logits = average_outputs(members)(images)
    torch.testing.assert_close(to_probabilities(logits), expected)


@pytest.mark.parametrize("classes", [1, 4])
def test_certain_members_give_finite_logits(classes: int) -> None:
    members = segmentations(classes)
    for member in members:
        nn.init.constant_(member.net.get_parameter("bias"), 500.0)
        nn.init.constant_(member.net.get_parameter("bias")[:1], -500.0)
    assert average_outputs(members)(torch.randn(1, 1, 8, 8)).isfinite().all()


def test_an_ensemble_is_saved_and_read_back_as_a_state_dict(tmp_path: Path) -> None:
    ensemble = average_outputs(segmentations(1, 2))
    file = tmp_path / "ensemble.safetensors"
    safetensors.torch.save_file(dict(ensemble.state_dict()), file)
    again = average_outputs([Segmentation(nn.Conv2d(1, 1, 3)) for _ in range(2)])
    again.load_state_dict(safetensors.torch.load_file(file))
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again(images), ensemble(images))


def test_pair_and_path_name_their_members_and_leave_them_as_they_were(tmp_path: Path) -> None:
    start = Averageable()
    bench = toy_bench(tmp_path, start)
    path = FineTune([1, 2, 3], 0.05).variants(bench, [])
    pair, whole = Ensemble().variants(bench, path)
    assert pair.members == ("none", "finetune@3")
    assert whole.members == ("finetune@1", "finetune@2", "finetune@3")
    x = torch.randn(5, 3)
    outputs = [v.module.net(x) for v in path]  # type: ignore[operator]
    torch.testing.assert_close(whole.module.net(x), torch.stack(outputs).mean(0))  # type: ignore[operator]
    halves = (start.net(x) + outputs[-1]) / 2
    torch.testing.assert_close(pair.module.net(x), halves)  # type: ignore[operator]
    assert bench.gradients == 3


def test_a_site_that_uses_an_ensemble_keeps_all_of_it_and_results_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = "ensemble@pair"
    monkeypatch.setattr("lightning_fl.personalisation.choice.choose", lambda *_: chosen)
    settings = Personalisation([FineTune([2], 0.05), Ensemble(["pair"])])
    experiment = toy_experiment(module=Averageable(), personalisation=settings)
    run = toy_run(tmp_path, experiment, report=True)
    choice = run.start()["personalisation"]["B"]
    assert choice["choice"] == chosen
    assert choice["members"] == ["none", "finetune@2"]
    kept = safetensors.torch.load_file(tmp_path / "models" / "B.safetensors")
    shared = safetensors.torch.load_file(tmp_path / "models" / "global.safetensors")
    assert torch.equal(kept["net.members.0.0.weight"], shared["net.0.weight"])
    assert not torch.equal(kept["net.members.1.0.weight"], shared["net.0.weight"])
    assert "B: none and finetune@2" in (tmp_path / "report.html").read_text()


def test_builds_on_the_last_fine_tuning_before_it(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, Averageable())
    found = FineTune([1], 0.05).variants(bench, [])
    found += FineTune([2], 0.05, layers="head").variants(bench, found)
    [pair] = Ensemble(["pair"]).variants(bench, found)
    assert pair.members == ("none", "finetune[head]@2")


def test_interpolation_is_linear_in_the_weights(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module())
    path = FineTune([2, 6], 0.05).variants(bench, [])
    [quarter, half] = Interpolate([0.25, 0.5]).variants(bench, path)
    start, end = bench.start.state_dict(), path[-1].module.state_dict()
    assert_same(quarter.module.state_dict(), {n: 0.75 * start[n] + 0.25 * end[n] for n in end})
    assert_same(half.module.state_dict(), {n: 0.5 * start[n] + 0.5 * end[n] for n in end})


def test_batch_norm_is_reestimated_after_interpolation(tmp_path: Path) -> None:
    bench = toy_bench(tmp_path, toy_module(batch_norm=True))
    [half] = Interpolate([0.5]).variants(bench, FineTune([6], 0.05).variants(bench, []))
    again = bench.with_own_batch_norm(half.module)
    assert_same(half.module.state_dict(), again.state_dict())


@pytest.mark.parametrize(
    ("candidate", "module", "before", "message"),
    [
        (Ensemble(), Averageable(), [], "Ensemble builds on a fine-tuning, but no FineTune"),
        (Interpolate(), Averageable(), [], "Interpolate builds on a fine-tuning, but no FineTune"),
        (Ensemble(), Averageable(), [FineTune([7])], "has one, after 7 steps"),
        (Ensemble(), toy_module(), [FineTune()], r"ToyModule does not say how .* `output_maps\(\)"),
        (Ensemble(), pl.LightningModule(), [FineTune()], "needs the task's network as `net`"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    candidate: Candidate, module: pl.LightningModule, before: Sequence[Candidate], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        candidate.check(module, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Interpolate([0.5, 1.0]), r"between 0 and 1, both ends left out, but got \[0.5, 1"),
        (lambda: Interpolate([]), r"but got \[\]"),
        (lambda: Ensemble([]), r"`kinds` to be pair, path or both, but got \[\]"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
