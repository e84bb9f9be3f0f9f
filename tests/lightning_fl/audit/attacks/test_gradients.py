import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_fl.audit import LocalSteps, TaskGradient, mean_gradient
from lightning_fl.errors import ConfigError
from models import Segmentation
from tests.lightning_fl.audit.victims import Classifier, lenet_classifier, pictures


def _batch(count: int = 2) -> dict[str, Tensor]:
    return {"image": pictures(count), "label": torch.arange(count) % 2}


def _norm_net() -> Classifier:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 14 * 14, 2)]
    return Classifier(nn.Sequential(*layers))


def test_gradient_is_that_of_backward() -> None:
    module = lenet_classifier()
    found = TaskGradient(module)(_batch())
    nn.functional.cross_entropy(module.net(pictures(2)), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    assert set(found) == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_gradient_of_a_segmentation_batch_is_that_of_its_loss() -> None:
    torch.manual_seed(0)
    module = Segmentation(nn.Conv2d(1, 1, 3, padding=1))
    mask = (pictures(2)[:, 0] > 0.5).long()
    found = TaskGradient(module)({"image": pictures(2), "mask": mask})
    module.loss(module(pictures(2)), mask).backward()
    torch.testing.assert_close(found["net.weight"], module.net.weight.grad)


def test_the_module_stays_as_it_was_and_no_warning_is_raised() -> None:
    module = _norm_net().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient = TaskGradient(module)
        gradient(_batch())
    assert not module.training
    for state in (module.state_dict(), gradient.module.state_dict()):
        for name, value in before.items():
            assert torch.equal(state[name], value), name


def test_training_mode_needs_no_statistics_and_evaluation_mode_does() -> None:
    module, other = _norm_net(), _norm_net()
    other.get_buffer("net.1.running_mean").fill_(5.0)
    weight = "net.3.weight"
    for training, equal in ((True, True), (False, False)):
        first = TaskGradient(module, training=training)(_batch())[weight]
        second = TaskGradient(other, training=training)(_batch())[weight]
        assert torch.allclose(first, second) is equal


def test_frozen_parameters_have_no_gradient_and_unused_ones_zero() -> None:
    module = lenet_classifier()
    module.net.get_parameter("head.bias").requires_grad_(False)
    module.unused = nn.Parameter(torch.ones(2))
    found = TaskGradient(module)(_batch())
    assert "net.head.bias" not in found
    assert torch.equal(found["unused"], torch.zeros(2))


def test_a_module_without_trainable_parameters_is_refused() -> None:
    module = lenet_classifier().requires_grad_(False)
    with pytest.raises(ConfigError, match="Classifier has no parameter with a gradient"):
        TaskGradient(module)


def test_a_training_step_without_a_loss_is_refused() -> None:
    class Mute(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    with pytest.raises(ConfigError, match=r"Mute\.training_step gave NoneType instead of a loss"):
        TaskGradient(Mute(nn.Linear(1, 1)))(_batch())


def test_a_training_step_may_take_no_index_and_give_a_dict() -> None:
    class Other(Classifier):
        def training_step(self, batch: Any) -> Any:  # type: ignore[override]
            return {"loss": self.net(batch["image"]).sum()}

    found = TaskGradient(Other(nn.Linear(16, 1)))(_batch(1))
    torch.testing.assert_close(found["net.bias"], torch.tensor([16.0]))


def test_gradient_can_be_differentiated_with_respect_to_the_image() -> None:
    gradient = TaskGradient(lenet_classifier().double())
    image = pictures(1).double().requires_grad_()

    def bias(image: Tensor) -> Tensor:
        batch = {"image": image, "label": torch.tensor([1])}
        return gradient(batch, create_graph=True)["net.head.bias"]

    assert torch.autograd.gradcheck(bias, (image,), fast_mode=True)


def test_one_sgd_step_gives_the_gradient_back() -> None:
    module = lenet_classifier()
    gradient = TaskGradient(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    module.training_step(_batch(), 0).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    update = {name: value.detach() - before[name] for name, value in module.named_parameters()}
    found = mean_gradient(update, lr=0.5, steps=1)
    for name, value in gradient(_batch()).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)


def test_adams_first_step_gives_little_more_than_the_sign() -> None:
    module = lenet_classifier()
    seen = TaskGradient(module)(_batch())["net.head.bias"]
    before = module.net.get_parameter("head.bias").detach().clone()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    module.training_step(_batch(), 0).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    update = {"bias": module.net.get_parameter("head.bias").detach() - before}
    found = mean_gradient(update, lr=0.01, steps=1)["bias"]
    torch.testing.assert_close(found, seen.sign(), atol=1e-4, rtol=0)


def test_local_steps_are_those_of_torchs_sgd() -> None:
    module = lenet_classifier()
    found = LocalSteps(TaskGradient(module), lr=0.2, steps=4)(_batch(3))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    for _ in range(4):
        optimizer.zero_grad()
        module.training_step(_batch(3), 0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    update = {name: value.detach() - before[name] for name, value in module.named_parameters()}
    for name, value in mean_gradient(update, lr=0.2, steps=4).items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0, "steps": 1}, "Expected `lr` to be positive, but got 0.0"),
        ({"lr": 0.1, "steps": 0}, "Expected `steps` to be at least 1, but got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mean_gradient({"w": torch.ones(1)}, **settings)
    with pytest.raises(ConfigError, match=message):
        LocalSteps(TaskGradient(lenet_classifier()), **settings)
