"""DP-SGD in a fit, against gradients by hand, and in whole runs of toy hospitals."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.algorithms import (
    Algorithm,
    Ditto,
    FedAvg,
    FedPer,
    FedProx,
    FedRep,
    PerFedAvg,
    Scaffold,
)
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.privacy import SampleLevelDP
from lightning_fl.privacy.fitness import (
    check_layers,
    check_loss,
    check_method,
    check_trainer,
)
from lightning_fl.privacy.poisson import PoissonBatches, poisson_loader
from lightning_fl.privacy.private_fit import PrivateFit
from lightning_fl.training.fitting import TrainerOptions
from models import DiceCrossEntropy, Segmentation
from tests.toy import ToyModule, quiet_trainer, toy_data, toy_experiment, toy_run

SAMPLES = 6


def train(module: pl.LightningModule, *, steps: int = 1, **settings: Any) -> PrivateFit:
    """Some steps of DP-SGD on all samples at once."""
    loader, batches = poisson_loader(DataLoader(toy_data(SAMPLES), batch_size=SAMPLES))
    defaults: dict[str, Any] = {"max_grad_norm": 1e6, "noise_multiplier": 0.0}
    private = PrivateFit(batches=batches, **(defaults | settings))
    quiet_trainer(max_epochs=-1, max_steps=steps, callbacks=[private]).fit(module, loader)
    return private


def step_by_hand(module: ToyModule, clip: float) -> list[Tensor]:
    """Weights after one step with each sample's gradient clipped by itself."""
    total = [torch.zeros_like(p) for p in module.parameters()]
    for x, y in DataLoader(toy_data(SAMPLES), batch_size=1):
        module.zero_grad()
        module.loss((x, y)).backward()  # type: ignore[no-untyped-call]
        own = [p.grad for p in module.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float(g.square().sum()) for g in own))
        for summed, gradient in zip(total, own, strict=True):
            summed += gradient * min(1.0, clip / norm)
    return [
        p.detach() - module.lr * t / SAMPLES
        for p, t in zip(module.parameters(), total, strict=True)
    ]


@pytest.mark.parametrize("clip", [1e6, 0.5])
def test_a_step_without_noise_is_that_of_clipped_gradients_by_hand(clip: float) -> None:
    torch.manual_seed(0)
    module = ToyModule()
    expected = step_by_hand(copy.deepcopy(module), clip)
    train(module, max_grad_norm=clip)
    for found, wanted in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-6)


def test_the_noise_of_a_step_has_the_stated_size() -> None:
    torch.manual_seed(0)
    module = ToyModule(width=4000)
    quiet, loud = copy.deepcopy(module), copy.deepcopy(module)
    train(quiet, max_grad_norm=0.5)
    train(loud, max_grad_norm=0.5, noise_multiplier=3.0)
    noise = torch.cat(
        [
            (a - b).detach().flatten()
            for a, b in zip(loud.parameters(), quiet.parameters(), strict=True)
        ]
    )
    std = module.lr * 3.0 * 0.5 / SAMPLES
    assert float(noise.std()) == pytest.approx(std, rel=0.03)  # 20001 values, six standard errors


def test_two_fits_of_one_seed_have_different_noise() -> None:
    modules = []
    for _ in range(2):
        torch.manual_seed(0)
        modules.append(ToyModule())
        train(modules[-1], noise_multiplier=1.0)
    one, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in modules)
    assert not torch.isclose(one, other).any()


def test_an_empty_batch_has_its_noise_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda size: b"\xff" * size)  # nobody is drawn
    module = ToyModule()
    before = [p.detach().clone() for p in module.parameters()]
    loader, batches = poisson_loader(DataLoader(toy_data(SAMPLES), batch_size=2))
    private = PrivateFit(max_grad_norm=1.0, noise_multiplier=0.0, batches=batches)
    quiet_trainer(max_epochs=-1, max_steps=2, callbacks=[private]).fit(module, loader)
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_a_module_is_left_without_a_trace_of_opacus() -> None:
    module = ToyModule()
    train(module)
    assert not [name for name in vars(module) if "grad_sample" in name]
    assert not any(hasattr(p, "grad_sample") for p in module.parameters())
    torch.autograd.backward(module.loss(toy_data(SAMPLES)[:]))  # no hook is left to fail


def test_poisson_batches_draw_each_sample_by_itself_at_the_rate() -> None:
    batches = PoissonBatches(200, 0.1)
    assert len(batches) == 10
    drawn = [batch for _ in range(40) for batch in batches]
    sizes = torch.tensor([float(len(batch)) for batch in drawn])
    assert float(sizes.mean()) == pytest.approx(20, abs=6 * math.sqrt(18 / 400))
    assert float(sizes.var()) == pytest.approx(18, rel=0.45)  # binomial: 200 * 0.1 * 0.9
    assert {i for batch in drawn for i in batch} == set(range(200))


@pytest.mark.parametrize(
    "algorithm",
    [FedProx(mu=0.1), PerFedAvg(0.01), Scaffold(), Ditto(mu=0.1), FedRep(personal=["net.3"])],
    ids=lambda a: type(a).__name__,
)
def test_methods_with_gradients_of_their_own_are_refused_by_name(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError, match=f"does not go with {type(algorithm).__name__}"):
        check_method(algorithm)


@pytest.mark.parametrize("algorithm", [FedAvg(), FedPer(personal=["net.3"])])
def test_methods_that_train_by_the_tasks_gradient_are_not(algorithm: Algorithm) -> None:
    check_method(algorithm)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"precision": "16-mixed"}, "`trainer.precision: 32-true`, but got 16-mixed"),
        ({"gradient_clip_val": 1.0}, "`trainer.gradient_clip_val: null`, but got 1.0"),
        ({"accumulate_grad_batches": 2}, "`trainer.accumulate_grad_batches: 1`, but got 2"),
    ],
)
def test_settings_of_the_trainer_that_clipping_does_not_see_are_refused(
    setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        check_trainer(TrainerOptions(local_steps=1, **setting))


def test_batch_norm_layers_are_named_also_derived_ones() -> None:
    with pytest.raises(ConfigError, match=r"its layers BatchNorm1d \(1: net.1\)"):
        check_layers(ToyModule(batch_norm=True))
    net = smp.Unet("tu-lcnet_050", encoder_weights=None, in_channels=1, classes=1)
    with pytest.raises(ConfigError, match=r"BatchNorm2d \(\d+: .*decoder.*BatchNormAct2d \(\d+: "):
        check_layers(net)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.InstanceNorm1d(4)])
def test_other_normalising_layers_are_not_in_the_way(norm: nn.Module) -> None:
    check_layers(nn.Sequential(nn.Linear(3, 4), norm))


def images(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = (
        torch.rand(count, 8, 8, generator=generator)
        > torch.linspace(0.1, 0.9, count)[:, None, None]
    )
    return {"image": torch.rand(count, 1, 8, 8, generator=generator), "mask": mask.long()}


def segmentation(dice: float) -> Segmentation:
    torch.manual_seed(0)
    return Segmentation(nn.Conv2d(1, 1, 3, padding=1), classes=1, loss=DiceCrossEntropy(dice))


def test_a_loss_that_mixes_samples_is_refused_and_one_that_does_not_is_not() -> None:
    check_loss(segmentation(0.0), images(4))
    with pytest.raises(
        ConfigError, match=r"Segmentation has .* for a batch, and .* Dice over a batch"
    ):
        check_loss(segmentation(1.0), images(4))


class Wordless(ToyModule):
    """Gives no loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None


def test_a_step_without_a_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Wordless.training_step gave NoneType"):
        check_loss(Wordless(), toy_data(4)[:])


def opacus_epsilon(noise: float, rate: float, steps: int) -> float:
    accountant = RDPAccountant()
    accountant.history = [(noise, rate, steps)]
    return float(accountant.get_epsilon(1e-5))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    privacy = SampleLevelDP(max_grad_norm=1.0, noise_multiplier=1.2)
    experiment = toy_experiment(privacy=privacy, aggregator=CyclicCKKS())
    toy_run(folder, experiment, report=True).start()
    return folder


def test_epsilon_of_a_run_is_opacus_number_at_each_site(finished: Path) -> None:
    found = json.loads((finished / "results.json").read_text())["privacy"]
    for said, samples in zip(found["sites"].values(), (15, 12, 9), strict=True):
        assert said["sample_rate"] == pytest.approx(4 / samples)
        assert said["steps"] == 6
        assert said["epsilon"] == pytest.approx(opacus_epsilon(1.2, 4 / samples, 6))
    assert found["epsilon"] == found["sites"]["C"]["epsilon"]
    assert [entry["round"] for entry in found["rounds"]] == [1, 2]
    assert found["rounds"][0]["epsilon"] == pytest.approx(opacus_epsilon(1.2, 4 / 9, 3))


def test_the_report_says_it(finished: Path) -> None:
    report = (finished / "report.html").read_text()
    epsilon = opacus_epsilon(1.2, 4 / 9, 6)
    assert f"each training sample has epsilon {epsilon:.3g} at most" in report
    assert "A patient with k samples has about k times this epsilon" in report


def test_each_site_chooses_its_noise_for_a_target(tmp_path: Path) -> None:
    toy_run(tmp_path, toy_experiment(privacy=SampleLevelDP(target_epsilon=3.0))).start()
    sites = json.loads((tmp_path / "results.json").read_text())["privacy"]["sites"]
    noises = [said["noise_multiplier"] for said in sites.values()]
    assert all(2.9 < said["epsilon"] <= 3.0 for said in sites.values())
    assert noises == sorted(set(noises))  # fewer samples, more noise


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module": ToyModule(batch_norm=True)}, r"BatchNorm1d \(1: net.1\)"),
        ({"algorithm": PerFedAvg(0.01)}, "does not go with PerFedAvg"),
        ({"aggregator": CyclicCKKS(weights="hidden")}, "`weights: hidden` keeps counts"),
    ],
)
def test_runs_that_cannot_be_private_are_refused_before_training(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    experiment = toy_experiment(privacy=SampleLevelDP(noise_multiplier=1.0), **settings)
    with pytest.raises(ConfigError, match=message):
        toy_run(tmp_path, experiment)


def test_a_target_that_a_site_cannot_meet_ends_the_run_before_training(tmp_path: Path) -> None:
    run = toy_run(tmp_path, toy_experiment(privacy=SampleLevelDP(target_epsilon=1e-7)))
    with pytest.raises(SiteError, match=r"target_epsilon` 1e-07 cannot be met in 6 steps") as error:
        run.start()
    assert error.value.op == "describe"  # train.py: status 2, without a traceback
    assert not list(tmp_path.glob("checkpoints/round-*"))


def test_a_sampling_rate_of_zero_is_refused() -> None:
    privacy = SampleLevelDP(target_epsilon=8.0)
    with pytest.raises(ConfigError, match="sampling rate above 0 and at most 1, but got 0"):
        privacy.multiplier(10, 0.0)


class TwoOptimizers(ToyModule):
    """Has one optimiser too many."""

    def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:  # type: ignore[override]
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]


def test_several_optimisers_are_refused() -> None:
    module = TwoOptimizers()
    module.automatic_optimization = False
    with pytest.raises(ConfigError, match="needs one optimiser, but the task has 2"):
        train(module)


def test_a_gradient_norm_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_grad_norm` to be positive and finite, but got 0"):
        SampleLevelDP(max_grad_norm=0.0, noise_multiplier=1.0)
