from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from lightning_fl.errors import ConfigError
from lightning_fl.training.fitting import Progress, TrainerOptions, evaluate, fit
from tests.toy import ToyModule, quiet_trainer, toy_loader


class Scheduled(ToyModule):
    """Halves its rate after each epoch and remembers the rate of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
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
