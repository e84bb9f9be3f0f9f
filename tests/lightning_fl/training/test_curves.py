from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler, StepLR

from lightning_fl.algorithms import Algorithm, FedProx
from lightning_fl.algorithms.callback import FederatedCallback
from lightning_fl.training.curves import TrainingCurves
from lightning_fl.training.fitting import TrainerOptions, fit
from lightning_fl.training.progress import Progress
from tests.toy import ByHand, ToyModule, toy_loader


class Halving(ToyModule):
    """Halves its rate after every second step, and logs the size of a batch's first target."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("train/target", batch[1][0, 0].abs(), on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": StepLR(optimizer, 2, gamma=0.5), "interval": "step"}]


def plain_loop(module: ToyModule, steps: int) -> tuple[list[float], list[float], list[float]]:
    """Train without Lightning; return the loss, the gradient norm and the rate of each step."""
    made: Any = module.configure_optimizers()
    optimizer: torch.optim.Optimizer = made[0][0]
    scheduler: LRScheduler = made[1][0]["scheduler"]
    losses, norms, rates = [], [], []
    batches = [batch for _ in range(steps) for batch in toy_loader(4)][:steps]
    for batch in batches:
        optimizer.zero_grad()
        loss = module.loss(batch)
        torch.autograd.backward(loss)
        gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        losses.append(float(loss.detach()))
        norms.append(float(torch.cat(gradients).norm()))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return losses, norms, rates


def options(steps: int, **more: Any) -> TrainerOptions:
    return TrainerOptions(local_steps=steps, accelerator="cpu", **more)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def module_of(kind: type[ToyModule]) -> ToyModule:
    torch.manual_seed(0)
    return kind()


@pytest.mark.parametrize("steps", [2, 5, 8])  # a pass has six batches
def test_curves_of_two_rounds_are_those_of_one_plain_loop(steps: int) -> None:
    module, progress = module_of(Halving), Progress()
    losses, norms, rates = plain_loop(module_of(Halving), steps)
    curves = TrainingCurves()
    progress, _ = fit(module, toy_loader(4), [curves], options(steps), progress)
    assert curves.values["loss"] == pytest.approx(mean(losses))
    assert curves.values["grad_norm"] == pytest.approx(mean(norms))
    assert curves.values["lr"] == rates[-1]
    assert curves.values["samples"] == 4 * steps
    assert curves.seconds > 0
    following = TrainingCurves()
    fit(module, toy_loader(4), [following], options(1), progress)
    assert following.values["lr"] == plain_loop(module_of(Halving), steps + 1)[2][-1]


def test_what_a_step_logs_is_a_mean_over_all_passes_of_a_round() -> None:
    curves = TrainingCurves()
    fit(module_of(Halving), toy_loader(4), [curves], options(8), Progress())
    targets = [float(batch[1][0, 0].abs()) for batch in toy_loader(4)]
    assert curves.values["target"] == pytest.approx(mean([*targets, *targets[:2]]))


def test_accumulated_batches_make_one_step_and_losses_are_whole() -> None:
    whole, halved = TrainingCurves(), TrainingCurves()
    fit(module_of(ToyModule), toy_loader(8), [whole], options(3), Progress())
    more = options(3, accumulate_grad_batches=2)
    fit(module_of(ToyModule), toy_loader(4), [halved], more, Progress())
    assert halved.values == pytest.approx(whole.values)


def test_a_module_that_optimises_by_hand_has_curves_too() -> None:
    by_hand, automatic = TrainingCurves(), TrainingCurves()
    fit(module_of(ByHand), toy_loader(4), [by_hand], options(3), Progress())
    fit(module_of(ToyModule), toy_loader(4), [automatic], options(3), Progress())
    assert by_hand.values == pytest.approx(automatic.values)


def test_the_norm_is_of_the_methods_gradient_before_clipping() -> None:
    def norm(algorithm: Algorithm, **more: Any) -> float:
        module, curves = module_of(ToyModule), TrainingCurves()
        far = {name: value + 1 for name, value in module.state_dict().items()}
        begun = algorithm.begin_round(1, far, {})
        callbacks = [FederatedCallback(begun), curves]
        fit(module, toy_loader(4), callbacks, options(1, **more), Progress())
        return curves.values["grad_norm"]

    pulled, free = norm(FedProx(mu=10.0)), norm(FedProx(mu=0.0))
    assert abs(pulled - free) > 1
    assert norm(FedProx(mu=10.0), gradient_clip_val=0.01) == pulled
