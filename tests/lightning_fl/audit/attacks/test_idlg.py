import pytest
import torch
from torch import nn

from lightning_fl.audit import TaskGradient, idlg, image_scores
from lightning_fl.audit.attacks.idlg import last_layer, read_label
from lightning_fl.errors import ConfigError, DataError
from tests.lightning_fl.audit.victims import Classifier, lenet_classifier, pictures


def _net(classes: int, *, bias: bool, positive: bool) -> Classifier:
    activation: nn.Module = nn.Sigmoid() if positive else nn.Tanh()
    layers = [nn.Flatten(), nn.Linear(256, 8), activation, nn.Linear(8, classes, bias=bias)]
    return Classifier(nn.Sequential(*layers))


@pytest.mark.parametrize(
    ("classes", "bias", "positive"),
    [(1, True, False), (2, True, False), (5, True, False), (1, False, True), (2, False, True),
     (5, False, True), (5, False, False)],
)  # fmt: skip
def test_label_is_read_in_every_trial(classes: int, bias: bool, positive: bool) -> None:
    for trial in range(20):
        torch.manual_seed(trial)
        module = _net(classes, bias=bias, positive=positive)
        label = torch.tensor([trial % max(classes, 2)])
        seen = TaskGradient(module)({"image": torch.rand(1, 1, 16, 16), "label": label})
        assert torch.equal(read_label(module, seen), label)


@pytest.mark.parametrize("classes", [1, 2])
def test_a_last_layer_without_bias_and_sign_is_named(classes: int) -> None:
    torch.manual_seed(0)
    module = _net(classes, bias=False, positive=False)
    seen = TaskGradient(module)({"image": pictures(), "label": torch.tensor([1])})
    with pytest.raises(ConfigError, match=r"last layer, 'net\.3', has no bias, and .* no sign"):
        read_label(module, seen)


def test_a_gradient_without_the_last_layer_is_refused() -> None:
    module = lenet_classifier()
    with pytest.raises(DataError, match=r"nothing of the last layer, 'net\.head'"):
        read_label(module, {"net.body.0.bias": torch.ones(12)})


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_gradient_that_is_zero_or_not_finite_shows_no_label(value: float) -> None:
    module = lenet_classifier()
    with pytest.raises(DataError, match=r"last layer, 'net\.head', is zero or not finite"):
        read_label(module, {"net.head.bias": torch.full((2,), value)})


def test_a_net_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="Identity has no linear or convolutional layer"):
        last_layer(nn.Identity())


def test_larger_batches_are_refused() -> None:
    gradient = TaskGradient(lenet_classifier())
    with pytest.raises(ConfigError, match="label of one sample, but the batch has 2"):
        idlg(gradient, {}, (2, 1, 16, 16))


def test_image_and_label_of_one_sample_come_back() -> None:
    for trial in range(3):
        gradient = TaskGradient(lenet_classifier(trial))
        truth = pictures(trial + 1)[-1:]
        seen = gradient({"image": truth, "label": torch.tensor([trial % 2])})
        found = idlg(gradient, seen, (1, 1, 16, 16), iterations=100, seed=trial)
        assert found.target.tolist() == [trial % 2]
        assert image_scores(found.images, truth).psnr > 25
