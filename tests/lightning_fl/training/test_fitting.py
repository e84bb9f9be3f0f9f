import copy
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from monai.optimizers import lr_scheduler as monai_schedulers
from torch.optim import lr_scheduler

from lightning_fl.errors import ConfigError
from lightning_fl.training.fitting import TrainerOptions, evaluate, fit
from lightning_fl.training.progress import Progress
from tests.toy import ByHand, ToyModule, quiet_trainer, toy_loader


class Scheduled(ToyModule):
    """Halves its rate after each epoch and remembers the rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def options(**settings: Any) -> TrainerOptions:
    return TrainerOptions(accelerator="cpu", **settings)


def test_many_fits_equal_one_long_fit() -> None:
    torch.manual_seed(0)
    whole = Scheduled()
    torch.manual_seed(0)
    rounds = Scheduled()
    quiet_trainer(max_epochs=3).fit(whole, toy_loader(8))
    progress = Progress()
    for _ in range(3):
        progress = Progress.from_json(progress.to_json())
        progress, _ = fit(rounds, toy_loader(8), [], options(local_epochs=1), progress)
    assert (progress.epochs, progress.steps) == (3, 9)
    assert rounds.rates == whole.rates
    for a, b in zip(whole.parameters(), rounds.parameters(), strict=True):
        assert torch.equal(a, b)


def test_steps_count_on_and_pass_over_short_loaders() -> None:
    class Counting(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            self.seen.append((trainer.current_epoch, trainer.global_step))

    module, progress, counting = ToyModule(), Progress(), Counting()
    for _ in range(2):
        progress, _ = fit(module, toy_loader(8), [counting], options(local_steps=5), progress)
    assert [step for _, step in counting.seen] == list(range(1, 11))
    assert progress.steps == 10
    epochs = [epoch for epoch, _ in counting.seen]
    assert epochs == sorted(epochs)
    assert epochs[-1] >= 2


def test_metrics_lose_the_prefix_of_their_split() -> None:
    assert set(evaluate(ToyModule(), toy_loader(8), "val", options(local_steps=1))) == {"loss"}
    assert set(evaluate(ToyModule(), toy_loader(8), "test", options(local_steps=1))) == {"loss"}


def test_a_module_without_metrics_is_refused() -> None:
    class Silent(ToyModule):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.loss(batch)

    with pytest.raises(ConfigError, match="Silent logs no metric in its val step"):
        evaluate(Silent(), toy_loader(8), "val", options(local_steps=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Expected one of `trainer.local_steps` and `trainer.local_epochs`"),
        ({"local_steps": 1, "local_epochs": 1}, "but got 1 and 1"),
        ({"local_steps": 0}, "`trainer.local_steps` to be at least 1, but got 0"),
        ({"local_epochs": 1, "accumulate_grad_batches": 0}, "accumulate_grad_batches"),
    ],
)
def test_impossible_options_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(**settings).check()


STEPS = 5
"""Of a round; a scheduler's turn at 7 lies in the second one."""
MakeScheduler = Callable[[torch.optim.Optimizer], Any]


def warm_then_by_milestones(optimizer: torch.optim.Optimizer) -> lr_scheduler.SequentialLR:
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
        lr_scheduler.MultiStepLR(optimizer, [4, 7]),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, [3])


SCHEDULERS: dict[str, MakeScheduler] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7, 11]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, total_iters=7),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.2, total_iters=12),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": warm_then_by_milestones,
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 13, power=2),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 12),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 7), lr_scheduler.MultiStepLR(o, [6, 9])], optimizer=o
    ),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=3 * STEPS + 1),
    "monai ExponentialLR": lambda o: monai_schedulers.ExponentialLR(o, 1.0, 15),
    "monai LinearLR": lambda o: monai_schedulers.LinearLR(o, 1.0, 15),
    "monai WarmupCosineSchedule": lambda o: monai_schedulers.WarmupCosineSchedule(o, 4, 15),
    "rates that are tensors": lambda o: lr_scheduler.CosineAnnealingLR(
        o,
        12,
        eta_min=torch.tensor(1e-4),  # type: ignore[arg-type]  # torch takes it
    ),
}
"""Every scheduler that needs no metric; `ReduceLROnPlateau` has a test of its own."""


def test_no_scheduler_is_left_out_here() -> None:
    classes = {
        f"{prefix}{name}"
        for prefix, module in (("", lr_scheduler), ("monai ", monai_schedulers))
        for name, cls in vars(module).items()
        if isinstance(cls, type)
        and issubclass(cls, lr_scheduler.LRScheduler)
        and cls.__module__ == module.__name__
        and not name.startswith("_")
    }
    tried = {*SCHEDULERS, "LRScheduler", "ReduceLROnPlateau"} - {"rates that are tensors"}
    assert classes == tried


class ByStep(ToyModule):
    """Has a scheduler that acts after every step, and remembers what it sets."""

    def __init__(self, make: MakeScheduler, rate: float | torch.Tensor = 0.1) -> None:
        super().__init__()
        self.make, self.rate = make, rate
        self.groups: list[dict[str, Any]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        [group] = self.trainer.optimizers[0].param_groups
        self.groups.append({k: copy.deepcopy(v) for k, v in group.items() if k != "params"})

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), copy.deepcopy(self.rate), momentum=0.9)
        scheduler = self.make(optimizer)
        monitor = {"monitor": "train/loss", "strict": False}
        return [optimizer], [{"scheduler": scheduler, "interval": "step"} | monitor]


def in_rounds(module: ByStep, rounds: int = 3) -> list[dict[str, Any]]:
    """Return the settings of each step of several rounds, whose progress is written down."""
    progress = Progress()
    for _ in range(rounds):
        progress, _ = fit(module, toy_loader(8), [], options(local_steps=STEPS), progress)
        progress = Progress.from_json(progress.to_json())
    return module.groups


@pytest.mark.parametrize("name", SCHEDULERS)
def test_rounds_have_the_rates_of_one_long_fit(name: str) -> None:
    rate: float | torch.Tensor = 0.1
    if name == "rates that are tensors":
        rate = torch.tensor(0.1)
    whole = ByStep(SCHEDULERS[name], rate)
    fit(whole, toy_loader(8), [], options(local_steps=3 * STEPS), Progress())
    rounds = in_rounds(ByStep(SCHEDULERS[name], rate))
    assert rounds == whole.groups
    assert len({float(group["lr"]) for group in rounds[STEPS:]}) > 1


class ByPass(ToyModule):
    """Divides its rate by ten after each pass over the data."""

    def __init__(self, frequency: int = 1) -> None:
        super().__init__()
        self.frequency = frequency
        self.rates: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 1.0)
        scheduler = lr_scheduler.StepLR(optimizer, 1)
        return [optimizer], [{"scheduler": scheduler, "frequency": self.frequency}]


@pytest.mark.parametrize(
    ("steps", "frequency", "expected"),
    [
        (2, 1, [1, 1, 1, 0.1, 0.1, 0.1]),  # rounds shorter than the three batches of a pass
        (4, 1, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001]),  # and longer
        (2, 2, [1, 1, 1, 1, 1, 1]),
        (4, 2, [1] * 6 + [0.1] * 6),
    ],
)
def test_a_scheduler_by_epoch_acts_after_as_many_batches_as_a_pass_holds(
    steps: int, frequency: int, expected: list[float]
) -> None:
    module, progress = ByPass(frequency), Progress()
    for _ in range(3):
        progress, _ = fit(module, toy_loader(8), [], options(local_steps=steps), progress)
    assert module.rates == pytest.approx(expected)


class Watching(ToyModule):
    """Lowers its rate when a metric gets no better."""

    def __init__(self, monitor: str) -> None:
        super().__init__()
        self.monitor = monitor
        self.rates: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("constant", torch.tensor(1.0))
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 1e-3)
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
        config = {"scheduler": scheduler, "interval": "step", "monitor": self.monitor}
        return {"optimizer": optimizer, "lr_scheduler": config}


def test_a_scheduler_that_watches_a_metric_goes_on_from_round_to_round() -> None:
    whole, rounds = Watching("constant"), Watching("constant")
    fit(whole, toy_loader(8), [], options(local_steps=15), Progress())
    progress = Progress()
    for _ in range(3):
        progress, _ = fit(rounds, toy_loader(8), [], options(local_steps=5), progress)
        progress = Progress.from_json(progress.to_json())
    assert rounds.rates == whole.rates
    assert min(rounds.rates) < 1e-4


def test_a_scheduler_that_watches_what_training_does_not_log_is_refused() -> None:
    with pytest.raises(ConfigError, match="ReduceLROnPlateau watches 'val/dice'"):
        fit(Watching("val/dice"), toy_loader(8), [], options(local_steps=1), Progress())


def test_rounds_that_are_optimised_by_hand_have_equal_lengths() -> None:
    module, progress, batches = ByHand(), Progress(), []
    for _ in range(3):
        progress, _ = fit(module, toy_loader(8), [], options(local_steps=4), progress)
        batches.append(module.batches)
    assert batches == [4, 8, 12]
    assert progress.steps == 12


def test_several_optimisers_by_hand_are_refused() -> None:
    with pytest.raises(ConfigError, match="ByHand optimises by hand with 2 optimisers"):
        fit(ByHand(2), toy_loader(8), [], options(local_steps=1), Progress())


@pytest.mark.parametrize("accumulate", [1, 2, 8])
def test_a_step_of_fewer_batches_has_their_mean_gradient(accumulate: int) -> None:
    """A site with one batch in a pass steps after each, whatever is to be accumulated."""
    torch.manual_seed(0)
    module = ToyModule()
    expected = copy.deepcopy(module)
    loader = toy_loader(8, samples=8)
    assert len(loader) == 1
    fit(module, loader, [], options(local_steps=1, accumulate_grad_batches=accumulate), Progress())
    fit(expected, loader, [], options(local_steps=1), Progress())
    for a, b in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)
