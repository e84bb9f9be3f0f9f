import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from monai.networks.nets import DenseNet, EfficientNetBN, SEResNet50
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fl.data.module import LabelledSample
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.personalisation.ensemble import average_outputs
from lightning_fl.personalisation.mirror import mirrored
from lightning_fl.training.batches import cut
from models import Classification
from tests.models.answer import Answer
from tests.toy import quiet_trainer

METRICS = (
    *("loss", "auroc", "accuracy", "f1", "balanced_accuracy"),
    *("sensitivity", "specificity", "ece"),
)


def small_densenet(classes: int) -> nn.Module:
    net: nn.Module = DenseNet(
        3, 1, classes, init_features=8, growth_rate=4, block_config=(1, 3, 6, 4)
    )
    return net


def efficientnet(classes: int) -> nn.Module:
    net: nn.Module = EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=3, in_channels=1, num_classes=classes
    )
    return net


def seresnet(classes: int) -> nn.Module:
    net: nn.Module = SEResNet50(
        layers=(1, 1, 1, 1), spatial_dims=3, in_channels=1, num_classes=classes
    )
    return net


def flat(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


NETS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "DenseNet": (small_densenet, 3),
    "EfficientNetBN": (efficientnet, 3),
    "SEResNet50": (seresnet, 3),
    "2-D": (flat, 2),
}
"""Nets and the dimensions of their images."""


def tiny(classes: int = 2) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(8, classes))


def batch(classes: int = 2, dims: int = 3, count: int = 4) -> LabelledSample:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(count, 1, *[32] * dims, generator=generator),
        "label": torch.arange(count) % max(classes, 2),
    }


def loader(whole: LabelledSample) -> DataLoader[LabelledSample]:
    rows: Any = [
        {"image": image, "label": label}
        for image, label in zip(whole["image"], whole["label"], strict=True)
    ]
    return DataLoader(rows, batch_size=2)


def evaluate(logits: Tensor, labels: Tensor, classes: int) -> Mapping[str, float]:
    """What a test run logs for a net that answers with the given logits."""
    task = Classification(Answer(lambda image: image), classes=classes)
    return quiet_trainer().test(task, loader({"image": logits, "label": labels}), verbose=False)[0]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_net_trains_and_predicts(name: str, classes: int) -> None:
    build, dims = NETS[name]
    task = Classification(build(classes), classes=classes)
    data = batch(classes, dims)
    task.check_batch(data)
    torch.autograd.backward(task.training_step(data))
    assert any(p.grad is not None and p.grad.any() for p in task.parameters())
    found = task.eval().predict_step(data)
    assert found.shape == (4, classes)
    assert found.min() >= 0
    if classes > 1:
        torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


def test_the_papers_net_has_1_85_million_parameters() -> None:
    net = DenseNet(3, 1, 2, init_features=40, growth_rate=32, block_config=(1, 3, 6, 4))
    assert sum(p.numel() for p in net.parameters()) == 1_849_852


@pytest.mark.parametrize("classes", [1, 2])
def test_logged_scores_by_hand(classes: int) -> None:
    logit = torch.tensor([3.0, 2.0, -1.0, 1.0, -2.0])
    labels = torch.tensor([1, 1, 1, 0, 0])
    logits = logit[:, None] if classes == 1 else torch.stack([torch.zeros(5), logit], dim=1)
    found = evaluate(logits, labels, classes)
    assert set(found) == {f"test/{name}" for name in METRICS}
    expected = {
        "loss": F.binary_cross_entropy_with_logits(logit, labels.float()).item(),
        "auroc": 5 / 6,
        "accuracy": 3 / 5,
        "f1": 2 / 3,
        "balanced_accuracy": 7 / 12,
        "sensitivity": 2 / 3,
        "specificity": 1 / 2,
    }
    for name, value in expected.items():
        assert found[f"test/{name}"] == pytest.approx(value), name


def test_a_split_of_one_class_is_evaluated() -> None:
    found = evaluate(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0]), 2)
    assert found["test/accuracy"] == 0.5
    assert found["test/auroc"] != found["test/auroc"]


def test_class_weights_weigh_the_loss() -> None:
    logits, labels = torch.tensor([[0.3, -0.2], [1.0, 0.5], [0.0, 2.0]]), torch.tensor([0, 1, 1])
    losses = F.cross_entropy(logits, labels, reduction="none")
    expected = (losses[0] + 3 * losses[1] + 3 * losses[2]) / 7
    loss = Classification(tiny(), class_weights=[1, 3]).loss
    torch.testing.assert_close(loss(logits, labels), expected)
    single = Classification(tiny(1), classes=1, class_weights=[1, 3]).loss
    torch.testing.assert_close(single(logits[:, 1:] - logits[:, :1], labels), expected)


def test_plain_trainer_fits_and_logs() -> None:
    task = Classification(tiny(), class_weights=[1, 2])
    before = copy.deepcopy(task.state_dict())
    fit = quiet_trainer(max_epochs=1)
    fit.fit(task, loader(batch()), loader(batch()))
    assert set(fit.callback_metrics) == {"train/loss"} | {f"val/{name}" for name in METRICS}
    assert not torch.equal(task.state_dict()["net.2.bias"], before["net.2.bias"])


def test_only_the_net_is_in_the_state() -> None:
    task = Classification(tiny(), class_weights=[1, 2])
    task.validation_step(batch(), 0)
    assert all(name.startswith("net.") for name in task.state_dict())
    assert not copy.deepcopy(task).test_scores["auroc"].update_called


def test_half_precision_nets_have_their_loss_in_single() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Classification(tiny()).training_step(batch(), 1).dtype == torch.float32


def test_module_works_in_double() -> None:
    task = Classification(tiny(), class_weights=[1, 2]).double()
    loss = task.training_step({**batch(), "image": batch()["image"].double()}, 1)
    assert loss.dtype == torch.float64


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_are_averaged_by_ensemble_and_mirror(classes: int) -> None:
    one, other = (Classification(tiny(classes), classes=classes) for _ in range(2))
    data = batch(classes)
    mean = (one.predict_step(data) + other.predict_step(data)) / 2
    ensemble: Any = average_outputs([one, other])
    torch.testing.assert_close(ensemble.predict_step(data), mean)
    turned: LabelledSample = {"image": data["image"].flip(-1), "label": data["label"]}
    both: Any = mirrored(one)
    mean = (one.predict_step(data) + one.predict_step(turned)) / 2
    torch.testing.assert_close(both.predict_step(data), mean)


def test_batches_are_cut_with_their_labels() -> None:
    first, second = cut(batch(), 2)
    assert first["label"].tolist() == [0, 1]
    assert second["image"].shape == (2, 1, 32, 32, 32)


def test_check_batch_leaves_no_trace() -> None:
    task = Classification(small_densenet(2))
    before = copy.deepcopy(task.state_dict())
    task.check_batch(batch())
    torch.testing.assert_close(task.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in task.net.modules())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: [x], r"got a list\. Turn off its auxiliary outputs"),
        (lambda x: x, r"shape \(4, 1, 32, 32, 32\)\. Use a classification net"),
        (lambda x: x.flatten(1)[:, :3], "gives 3 channels, but `task.classes` is 2; set"),
    ],
)
@pytest.mark.parametrize("step", ["training_step", "check_batch"])
def test_output_that_does_not_fit(answer: Callable[[Tensor], Any], message: str, step: str) -> None:
    with pytest.raises(ConfigError, match=message):
        getattr(Classification(Answer(answer)), step)(batch())


def test_images_that_the_net_cannot_take() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 1, 32, 32\) .*Change the net's dimensions"):
        Classification(small_densenet(2)).check_batch(batch(dims=2))


@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step", "check_batch"])
def test_labels_outside_the_classes_are_named(step: str) -> None:
    data = batch()
    data["label"] *= 5
    arguments = () if step == "check_batch" else (0,)
    with pytest.raises(DataError, match=r"values \[5\], but `task.classes` is 2.* 0 to 1"):
        getattr(Classification(tiny()), step)(data, *arguments)


def test_labels_of_the_wrong_kind_are_refused() -> None:
    data, task = batch(), Classification(tiny())
    with pytest.raises(ConfigError, match=r"shape \(4,\).* but got \(4, 1\)\. Let"):
        task.check_batch({"image": data["image"], "label": data["label"][:, None]})
    with pytest.raises(DataError, match=r"int64.*got torch\.float32"):
        task.check_batch({"image": data["image"], "label": data["label"].float()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "`classes` to be between 1 and 255, but got 0"),
        ({"class_weights": [1, 2, 3]}, r"to be 2 positive numbers.* got \[1, 2, 3\]"),
        ({"class_weights": [1, 0]}, r"positive numbers.* got \[1, 0\]"),
        ({"class_weights": [1, 2], "loss": nn.CrossEntropyLoss()}, "Set one of the two to null"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Classification(tiny(), **settings)


def test_yaml_builds_the_task_around_a_net() -> None:
    parser = ArgumentParser()
    parser.add_argument("--task", type=Callable[[nn.Module], pl.LightningModule])
    settings = {
        "class_weights": [1.0, 2.0],
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
    }
    config = parser.parse_object(
        {"task": {"class_path": "models.Classification", "init_args": settings}}
    )
    task = parser.instantiate(parser.parse_string(parser.dump(config))).task(tiny())
    assert task.configure_optimizers().defaults["lr"] == 0.5
    assert task.loss.weight.tolist() == [1, 2]


def several(logits: Tensor) -> Classification:
    return Classification(Answer(lambda image: image), classes=logits.shape[1], multilabel=True)


def test_missing_labels_count_neither_in_the_loss_nor_in_its_gradient() -> None:
    logits = torch.tensor([[0.3, -0.2], [1.0, 0.5], [2.0, 2.0]], requires_grad=True)
    labels = torch.tensor([[1, math.nan], [0, 1], [math.nan, math.nan]])
    data: LabelledSample = {"image": logits, "label": labels}
    each = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    loss = several(logits).training_step(data)
    torch.testing.assert_close(loss, (each[0, 0] + each[1].mean() + 0) / 3)
    [gradient] = torch.autograd.grad(loss, logits)
    assert ((gradient == 0) == labels.isnan()).all()
    nothing = several(logits).training_step({"image": logits, "label": labels[2:].expand(3, 2)})
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_weights_of_several_labels_weigh_those_who_have_them() -> None:
    logits, labels = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    loss = Classification(tiny(), multilabel=True, class_weights=[3, 5]).loss
    torch.testing.assert_close(loss(logits, labels), torch.tensor(math.log(2) * (3 + 1) / 2))


def test_several_labels_are_trained_logged_and_predicted_each_by_itself() -> None:
    task = Classification(tiny(3), classes=3, multilabel=True)
    labels = torch.tensor([[0, 1, 1], [1, 0, math.nan], [0, 1, 1], [1, 0, math.nan]])
    data: LabelledSample = {"image": batch()["image"], "label": labels}
    fit = quiet_trainer(max_epochs=1)
    fit.fit(task, loader(data), loader(data))
    names = {f"{n}{of}" for n in ("auroc", "average_precision") for of in ("", "/1", "/2", "/3")}
    assert set(fit.callback_metrics) == {"train/loss", "val/loss"} | {f"val/{n}" for n in names}
    assert fit.callback_metrics["val/auroc/3"].isnan()  # all have it, as far as it is known
    assert not fit.callback_metrics["val/auroc"].isnan()
    torch.testing.assert_close(task.predict_step(data), task(data["image"]).sigmoid())


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(4), ConfigError, r"float labels of shape \(4, 2\).*`task.classes`"),
        (torch.zeros(4, 2).long(), ConfigError, r"but got torch.int64.*`task.multilabel` to false"),
        (torch.full((4, 2), -1.0), DataError, r"values \[-1\.0\].*missing \(NaN\)"),
    ],
)
def test_labels_that_are_not_several_are_refused(
    labels: Tensor, error: type[Exception], message: str
) -> None:
    task = Classification(tiny(), multilabel=True)
    with pytest.raises(error, match=message):
        task.check_batch({"image": batch()["image"], "label": labels})
