import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from jsonargparse import ArgumentParser
from monai.networks.nets import BasicUNet, UNet
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_fl.data.cases import collate_cases
from lightning_fl.data.module import Sample
from lightning_fl.errors import ConfigError, DataError
from models import DiceCrossEntropy, Segmentation
from models.output_bias import find_output_bias, prior_logits
from tests.models.answer import Answer
from tests.toy import quiet_trainer

Net = Callable[[int], nn.Module]


def smp_net(name: str, encoder: str, **settings: object) -> Net:
    """A net of segmentation_models_pytorch, by its number of classes, for grey images."""
    return lambda classes: getattr(smp, name)(
        encoder, encoder_weights=None, in_channels=1, classes=classes, **settings
    )


def basic_unet(classes: int) -> nn.Module:
    net: nn.Module = BasicUNet(2, 1, classes, features=(8, 8, 16, 16, 16, 8))
    return net


def monai_unet(classes: int) -> nn.Module:
    net: nn.Module = UNet(2, 1, classes, channels=(8, 16, 16), strides=(2, 2), num_res_units=2)
    return net


NETS: dict[str, Net] = {
    "Unet-resnet18": smp_net("Unet", "resnet18", decoder_channels=(32, 16, 16, 8, 8)),
    "Unet-lcnet": smp_net("Unet", "tu-lcnet_050", decoder_channels=(32, 16, 16, 8, 8)),
    "UnetPlusPlus-mobilenet": smp_net(
        "UnetPlusPlus", "mobilenet_v2", decoder_channels=(32, 16, 16, 8, 8)
    ),
    "FPN-lcnet": smp_net(
        "FPN", "tu-lcnet_050", decoder_pyramid_channels=32, decoder_segmentation_channels=32
    ),
    "DeepLabV3Plus-mobilenet": smp_net("DeepLabV3Plus", "mobilenet_v2", decoder_channels=32),
    "Segformer-mit_b0": smp_net("Segformer", "mit_b0", decoder_segmentation_channels=32),
    "UPerNet-lcnet": smp_net("UPerNet", "tu-lcnet_050", decoder_channels=32),
    "BasicUNet": basic_unet,
    "UNet": monai_unet,
}


def tiny(classes: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))


def batch(classes: int = 1, size: int = 64, count: int = 2) -> Sample:
    generator = torch.Generator().manual_seed(0)
    shape = (count, size, size)
    return {
        "image": torch.rand(count, 1, size, size, generator=generator),
        "mask": torch.randint(0, max(classes, 2), shape, generator=generator),
    }


def samples(classes: int = 1, count: int = 4) -> DataLoader[Sample]:
    whole = batch(classes, count=count)
    rows: Any = [
        {"image": image, "mask": mask}
        for image, mask in zip(whole["image"], whole["mask"], strict=True)
    ]
    return DataLoader(rows, batch_size=2)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_net_trains_and_predicts(name: str, classes: int) -> None:
    task = Segmentation(NETS[name](classes), classes=classes, foreground_prior=0.12)
    data = batch(classes)
    task.check_batch(data)
    torch.autograd.backward(task.training_step(data))
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())
    assert any(p.grad is not None and p.grad.any() for p in task.parameters())
    mask = task.eval().predict_step(data)
    assert mask.dtype == torch.uint8
    assert mask.shape == (2, 64, 64)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_output_bias_is_found_and_foreground_starts_rare(name: str, classes: int) -> None:
    net = NETS[name](classes)
    task = Segmentation(net, classes=classes, foreground_prior=0.12).eval()
    last = [p for n, p in net.named_parameters() if n.endswith("bias") and len(p) == classes][-1]
    torch.testing.assert_close(last.detach(), prior_logits(classes, 0.12, sigmoid=classes == 1))
    nn.init.zeros_(next(p for p in reversed(list(net.parameters())) if p.ndim == 4))
    logits = task(batch()["image"])
    foreground = logits.sigmoid() if classes == 1 else 1 - logits.softmax(dim=1)[:, :1]
    if name != "UNet":  # its last layer adds to the layer before
        assert foreground.mean().item() == pytest.approx(0.12, abs=1e-5)


def test_mean_probability_of_a_random_net_starts_near_the_prior() -> None:
    torch.manual_seed(0)
    task = Segmentation(NETS["DeepLabV3Plus-mobilenet"](1), foreground_prior=0.12).eval()
    assert task(batch()["image"]).sigmoid().mean().item() == pytest.approx(0.12, abs=0.01)


def test_prior_of_classes_is_shared_by_the_foreground() -> None:
    probabilities = prior_logits(4, 0.3, sigmoid=False).softmax(dim=0)
    torch.testing.assert_close(probabilities, torch.tensor([0.7, 0.1, 0.1, 0.1]))
    assert prior_logits(2, 0.12, sigmoid=True).tolist() == pytest.approx(
        2 * [math.log(0.12 / 0.88)]
    )


def test_no_prior_leaves_the_net_as_it_is() -> None:
    net = tiny()
    before = copy.deepcopy(net.state_dict())
    Segmentation(net)
    torch.testing.assert_close(net.state_dict(), before)


def test_finding_the_bias_changes_nothing_else() -> None:
    net = NETS["Unet-lcnet"](1)
    net.get_submodule("encoder").eval()  # frozen on purpose
    modes = [module.training for module in net.modules()]
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    find_output_bias(net, 1)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(1, 1, 3, padding=1, bias=False),
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()),
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(1)),
    ],
)
def test_no_output_bias_says_to_set_the_prior_to_null(net: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"Found no bias in .* Set `foreground_prior` to null"):
        Segmentation(net, foreground_prior=0.1)


def test_net_that_cannot_be_tried_says_to_set_the_prior_to_null() -> None:
    with pytest.raises(ConfigError, match=r"no 2-D convolution.* set `foreground_prior` to null"):
        Segmentation(Answer(lambda image: image), foreground_prior=0.1)
    fixed = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(100, 1))
    with pytest.raises(ConfigError, match=r"cannot take images of shape.*set `foreground_prior`"):
        Segmentation(fixed, foreground_prior=0.1)


def evaluate(logits: Tensor, mask: Tensor, classes: int = 1, **columns: Tensor) -> dict[str, float]:
    """What a test run logs for a net that answers with the given logits."""
    task = Segmentation(Answer(lambda image: image), classes=classes)
    columns |= {"image": logits, "mask": mask}
    rows: Any = [{name: c[i] for name, c in columns.items()} for i in range(len(mask))]
    loader: DataLoader[Sample] = DataLoader(rows, batch_size=1, collate_fn=collate_cases)
    return dict(quiet_trainer().test(task, loader, verbose=False)[0])


def test_logged_scores_by_hand() -> None:
    logits = torch.tensor([[[[3.0, 2.0, -1.0]]], [[[1.0, -2.0, -3.0]]]])
    mask = torch.tensor([[[1, 0, 0]], [[1, 1, 0]]])  # tp 1, fp 1, fn 0; tp 1, fp 0, fn 1
    found = evaluate(logits, mask)
    loss = sum(DiceCrossEntropy()(x[None], m[None]) for x, m in zip(logits, mask, strict=True)) / 2
    expected = {"dice": 2 / 3, "iou": 1 / 2, "precision": 3 / 4, "recall": 3 / 4, "loss": loss}
    expected["dice_pooled"] = 4 / 6
    assert found == pytest.approx({f"test/{name}": float(v) for name, v in expected.items()})
    together = evaluate(logits, mask, case=torch.tensor([3, 3]))  # tp 2, fp 1, fn 1
    assert together["test/precision"] == together["test/recall"] == pytest.approx(2 / 3)


def test_logged_scores_of_classes_by_hand() -> None:
    predicted = torch.tensor([[[0, 1, 2, 2]], [[1, 1, 0, 0]]])
    mask = torch.tensor([[[0, 1, 2, 1]], [[0, 1, 2, 0]]])
    logits = nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()
    found = evaluate(logits, mask, classes=3)  # class 1: tp 2 fp 1 fn 1; class 2: tp 1 fp 1 fn 1
    assert found["test/dice_pooled"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert found["test/dice"] == pytest.approx(((2 / 3 + 2 / 3) / 2 + (2 / 3 + 0) / 2) / 2)
    assert found["test/iou"] == pytest.approx(((1 / 2 + 1 / 2) / 2 + (1 / 2 + 0) / 2) / 2)


def test_empty_split_scores_one_and_a_false_alarm_zero() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.long)
    assert evaluate(torch.full((2, 1, 4, 4), -9.0), mask)["test/dice"] == 1.0
    assert evaluate(torch.full((2, 1, 4, 4), 9.0), mask)["test/iou"] == 0.0


def test_threshold_decides_the_mask() -> None:
    logits = torch.logit(torch.tensor([0.2, 0.4, 0.6])).reshape(1, 1, 1, 3)
    task = Segmentation(Answer(lambda image: image), threshold=0.3)
    assert task.scored(logits).tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize("classes", [1, 3])
def test_plain_trainer_fits_and_logs(classes: int) -> None:
    task = Segmentation(tiny(classes), classes=classes)
    before = copy.deepcopy(task.state_dict())
    fit = quiet_trainer(max_epochs=1)
    fit.fit(task, samples(classes), samples(classes))
    names = ("loss", "dice", "dice_pooled", "iou", "precision", "recall")
    scores = {f"val/{name}" for name in names}
    assert set(fit.callback_metrics) == {"train/loss"} | scores
    assert fit.global_step == 2
    assert not torch.equal(task.state_dict()["net.2.bias"], before["net.2.bias"])


def test_bf16_autocast_keeps_the_loss_in_float32() -> None:
    task = Segmentation(NETS["Unet-lcnet"](1))
    fit = quiet_trainer(max_steps=1, precision="bf16-mixed", num_sanity_val_steps=0)
    fit.fit(task, samples())
    assert fit.callback_metrics["train/loss"].isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task.net(batch()["image"]).dtype == torch.bfloat16
        assert task.training_step(batch(), 1).dtype == torch.float32


def test_module_works_in_double_with_second_derivatives() -> None:
    task, data = Segmentation(tiny()).double(), batch(size=8)
    loss = task.training_step({"image": data["image"].double(), "mask": data["mask"]}, 1)
    assert loss.dtype == torch.float64
    first = torch.autograd.grad(loss, list(task.net.parameters()), create_graph=True)
    second = torch.autograd.grad(
        torch.cat([g.flatten() for g in first]).square().sum(), list(task.net.parameters())
    )
    assert all(g.isfinite().all() for g in second)
    assert any(g.any() for g in second)


def test_scores_stay_out_of_the_state_and_copies_are_independent() -> None:
    task = Segmentation(tiny(), foreground_prior=0.1)
    assert all(name.startswith("net.") for name in task.state_dict())
    other = copy.deepcopy(task)
    other.validation_step(batch(), 0)
    nn.init.ones_(other.net.get_parameter("2.bias"))
    assert task.net.get_parameter("2.bias").item() == pytest.approx(math.log(0.1 / 0.9))
    assert not task.val_scores["dice"].update_called


def test_check_batch_leaves_no_trace() -> None:
    task = Segmentation(NETS["Unet-lcnet"](1))
    before = copy.deepcopy(task.state_dict())
    task.check_batch(batch())
    torch.testing.assert_close(task.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in task.net.modules())


def test_scheduler_steps_as_often_as_it_is_told() -> None:
    task = Segmentation(
        tiny(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
    )
    fit = quiet_trainer(max_steps=2)
    fit.fit(task, samples())
    assert fit.optimizers[0].param_groups[0]["lr"] == 0.25


def test_plateau_scheduler_is_refused() -> None:
    task = Segmentation(tiny(), lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(ConfigError, match=r"ReduceLROnPlateau.* Use CosineAnnealingLR"):
        task.configure_optimizers()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: [x], r"got a list\. Turn off its deep supervision"),
        (lambda x: {"out": x}, r"got a dict\. Turn off its deep supervision"),
        (lambda x: x.expand(-1, 3, -1, -1), "gives 3 channels, but `task.classes` is 1; set"),
        (lambda x: x[..., ::2, ::2], "logits of 2 x 32 x 32 for masks of 2 x 64 x 64"),
        (lambda x: x.flatten(1), r"shape \(2, 4096\)\. Use a 2-D"),
    ],
)
@pytest.mark.parametrize("step", ["training_step", "check_batch"])
def test_output_that_does_not_fit(answer: Callable[[Tensor], Any], message: str, step: str) -> None:
    task = Segmentation(Answer(answer))
    with pytest.raises(ConfigError, match=message):
        getattr(task, step)(batch())


@pytest.mark.parametrize(
    ("net", "size", "message"),
    [
        (smp_net("FPN", "tu-lcnet_050")(1), 50, r"\(2, 1, 50, 50\).*divisible by 32.*`size`"),
        (nn.Conv2d(3, 1, 1), 8, r"\(2, 1, 8, 8\).*to have 3 channels.*`channels`"),
    ],
)
def test_images_that_the_net_cannot_take(net: nn.Module, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentation(net).check_batch(batch(size=size))


@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step", "check_batch"])
def test_mask_values_outside_the_classes_are_named(step: str) -> None:
    data = batch()
    data["mask"] *= 7
    arguments = () if step == "check_batch" else (0,)
    with pytest.raises(DataError, match=r"values \[7\], but `task.classes` is 1.* 0 to 1"):
        getattr(Segmentation(tiny()), step)(data, *arguments)


def test_masks_of_the_wrong_kind_are_refused() -> None:
    data, task = batch(), Segmentation(tiny())
    with pytest.raises(ConfigError, match=r"but got \(2, 1, 64, 64\)\. Drop the channel"):
        task.check_batch({"image": data["image"], "mask": data["mask"][:, None]})
    with pytest.raises(DataError, match=r"int64.*got torch\.float32"):
        task.check_batch({"image": data["image"], "mask": data["mask"].float()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "`classes` to be between 1 and 255, but got 0"),
        ({"foreground_prior": 1.0}, "`foreground_prior` to lie between 0 and 1, but got 1.0"),
        ({"threshold": 0.0}, "`threshold` to lie between 0 and 1, but got 0.0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Segmentation(tiny(), **settings)


def test_yaml_builds_the_task_around_a_net() -> None:
    parser = ArgumentParser()
    parser.add_argument("--task", type=Callable[[nn.Module], pl.LightningModule])
    settings = {
        "loss": {"class_path": "models.DiceCrossEntropy", "init_args": {"dice": 0.5}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
        "lr_scheduler": {
            "class_path": "torch.optim.lr_scheduler.StepLR",
            "init_args": {"step_size": 3},
        },
        "foreground_prior": 0.12,
    }
    config = parser.parse_object(
        {"task": {"class_path": "models.Segmentation", "init_args": settings}}
    )
    again = parser.parse_string(parser.dump(config))
    task = parser.instantiate(again).task(tiny())
    configured = task.configure_optimizers()
    assert isinstance(configured["optimizer"], torch.optim.AdamW)
    assert configured["optimizer"].defaults["lr"] == 1e-3
    assert configured["optimizer"].defaults["weight_decay"] == 0.01  # AdamW's own, not Adam's 0
    assert configured["lr_scheduler"]["scheduler"].step_size == 3
    assert task.loss.dice == 0.5


def regions(count: int = 2) -> Sample:
    """Nested regions: the foreground, and the left half of it."""
    whole = batch(count=count)
    inner = whole["mask"].clone()
    inner[..., 32:] = 0
    return {"image": whole["image"], "mask": torch.stack([whole["mask"], inner], dim=1)}


def test_overlapping_regions_are_trained_and_predicted_each_by_itself() -> None:
    task = Segmentation(tiny(2), classes=2, regions=True, foreground_prior=0.1)
    torch.testing.assert_close(
        task.net.get_parameter("2.bias").detach(), torch.full((2,), math.log(1 / 9))
    )
    data = regions()
    task.check_batch(data)
    torch.autograd.backward(task.training_step(data))
    assert task.net.get_parameter("2.weight").grad is not None
    logits = torch.tensor([2.0, -3.0, 4.0, 1.0]).reshape(1, 2, 1, 2)
    assert task.scored(logits).tolist() == [[[[1, 0]], [[1, 1]]]]
    to_probabilities, to_logits = task.output_maps()
    torch.testing.assert_close(to_probabilities(logits), logits.sigmoid())
    torch.testing.assert_close(to_logits(to_probabilities(logits)), logits)


def test_masks_that_are_no_regions_are_refused() -> None:
    data, task = regions(), Segmentation(tiny(2), classes=2, regions=True)
    with pytest.raises(ConfigError, match=r"of 2 regions .* got \(2, 64, 64\).*`task.regions`"):
        task.check_batch({"image": data["image"], "mask": data["mask"][:, 0]})
    with pytest.raises(DataError, match=r"values \[2\]"):
        task.check_batch({"image": data["image"], "mask": data["mask"] * 2})


def test_a_binary_mask_of_0_and_255_alone_is_ignored_with_a_warning() -> None:
    data = batch()
    with pytest.warns(UserWarning, match=r"0 and 255 alone.* give 1 for foreground"):
        Segmentation(tiny()).check_batch({"image": data["image"], "mask": data["mask"] * 255})


def test_a_split_that_is_wholly_ignored_has_no_score_and_no_loss() -> None:
    found = evaluate(torch.zeros(2, 1, 4, 4), torch.full((2, 4, 4), 255))
    assert found.pop("test/loss") == 0
    assert all(math.isnan(value) for value in found.values())


def test_images_are_scored_on_the_pixels_of_their_files() -> None:
    """Logits of 1 x 2 pixels: the edge between them is at a finer place in 1 x 8 pixels."""
    logits = torch.tensor([[[[-1.0, 3.0]]]])
    original = torch.tensor([[[0, 0, 0, 1, 1, 1, 1, 1]]])  # -1, -1, -0.5, 0.5, 1.5, ...
    assert evaluate(logits, original[..., 6:], original=original)["test/dice"] == 1.0
    task = Segmentation(nn.Identity())
    sizes = [torch.Size((1, 8)), torch.Size((2, 2))]
    first, second = task.resized_masks(logits.expand(2, 1, 1, 2), sizes)
    assert torch.equal(first.long(), original[0])
    assert second.tolist() == [[0, 1], [0, 1]]


def test_the_largest_component_alone_is_kept_if_asked_for() -> None:
    logits = torch.tensor([[1.0, 1, -1, 1], [-1, -1, -1, -1], [1, -1, -1, -1]])[None, None]
    task = Segmentation(nn.Identity(), largest_component=True)
    assert task.scored(logits)[0].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
