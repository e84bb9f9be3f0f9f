import re
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from lightning_fl.algorithms import Algorithm, Centralised, FedAvg, Local
from lightning_fl.errors import ConfigError
from lightning_fl.training.layout import make_layout
from lightning_fl.training.personal_layers import matching_layers, personal_entries
from tests.toy import ToyModule, toy_experiment, toy_run


class Task(nn.Module):
    """A module with its net as an attribute, as a LightningModule has it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def unet(name: str = "Unet") -> Task:
    return Task(getattr(smp, name)("resnet18", encoder_weights=None))


def owners(entries: set[str], depth: int) -> set[str]:
    return {".".join(name.split(".")[:depth]) for name in entries}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("segmentation_head", {"net.segmentation_head"}),
        ("net.segmentation_head", {"net.segmentation_head"}),
        ("decoder", {"net.decoder"}),
        ("encoder", {"net.encoder"}),
        ("*_head", {"net.segmentation_head"}),
    ],
)
def test_parts_of_a_net_are_named_with_and_without_its_attribute(
    pattern: str, expected: set[str]
) -> None:
    module = unet()
    entries = personal_entries(module, [pattern])
    assert owners(entries, 2) == expected
    whole = {n for n in module.state_dict() if n.startswith((*(e + "." for e in expected),))}
    assert entries == whole


def test_a_pattern_reaches_any_depth_and_buffers_stay_with_their_layer() -> None:
    entries = personal_entries(unet(), ["decoder.blocks.*.conv2"])
    assert owners(entries, 5) == {f"net.decoder.blocks.{i}.conv2" for i in range(5)}
    assert "net.decoder.blocks.0.conv2.1.running_mean" in entries
    assert personal_entries(unet(), ["decoder.blocks.3"]) == personal_entries(
        unet(), ["net.decoder.blocks.3"]
    )


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("Unet", "blocks.4"),
        ("UnetPlusPlus", "blocks.x_0_4"),
        ("MAnet", "blocks.4"),
        ("Linknet", "blocks.4"),
        ("FPN", "seg_blocks.3"),
        ("DeepLabV3Plus", "block2"),
        ("PAN", "gau1"),
        ("PSPNet", "conv"),
        ("Segformer", "fuse_stage"),
        ("UPerNet", "fusion_block"),
    ],
)
def test_the_last_decoder_block_is_found_by_structure(name: str, block: str) -> None:
    module = unet(name)
    assert matching_layers(module, "last_decoder_block") == {f"net.decoder.{block}"}
    assert matching_layers(module.net, "last_decoder_block") == {f"decoder.{block}"}


@pytest.mark.parametrize("name", ["Unet", "UnetPlusPlus"])
def test_the_last_decoder_block_is_the_one_that_feeds_the_head(name: str) -> None:
    module = unet(name).eval()
    [last] = matching_layers(module, "last_decoder_block")
    fed: list[torch.Tensor] = []
    block, head = module.get_submodule(last), module.get_submodule("net.segmentation_head")
    block.register_forward_hook(lambda _, __, output: fed.append(output))
    head.register_forward_hook(lambda _, inputs, __: fed.append(inputs[0]))
    with torch.no_grad():
        module.net(torch.zeros(1, 3, 32, 32))
    assert len(fed) == 2
    assert fed[0] is fed[1]


def test_patterns_unite_and_none_keeps_nothing() -> None:
    module = unet()
    both = personal_entries(module, ["segmentation_head", "encoder"])
    assert owners(both, 2) == {"net.segmentation_head", "net.encoder"}
    assert personal_entries(module, []) == set()
    assert FedAvg(personal=[]).local_entries(module) == FedAvg().local_entries(module) == set()


@pytest.mark.parametrize("pattern", ["segmentation_haed", "segmentation_head.1", "Encoder"])
def test_a_pattern_that_matches_no_layer_with_weights_is_refused(pattern: str) -> None:
    message = (
        f"`personal` has '{pattern}', which matches no layer with weights. Use a layer's name or a "
        "pattern such as '*.head'. Layers of this module are net, net.encoder, net.decoder, "
        "net.segmentation_head"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        FedAvg(personal=["decoder", pattern]).local_entries(unet())


def test_a_net_without_a_decoder_is_told_so() -> None:
    with pytest.raises(ConfigError, match=r"no layer called decoder\. Name a layer"):
        personal_entries(ToyModule(), ["last_decoder_block"])


@pytest.mark.parametrize(
    "algorithm",
    [
        FedAvg(personal=["*"]),
        FedAvg(personal=["net"]),
        FedAvg(personal=["0", "1", "3"]),
        FedAvg(personal=["0", "3"], batch_norm="local"),
    ],
)
def test_patterns_that_leave_nothing_to_share_are_refused(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError, match=r"\]` leaves no trainable weight to share. Name fewer"):
        algorithm.local_entries(ToyModule(batch_norm=True))


def test_a_frozen_rest_is_nothing_to_share() -> None:
    module = unet()
    module.net.encoder.requires_grad_(False)
    with pytest.raises(ConfigError, match="use the algorithm Local"):
        FedAvg(personal=["decoder", "segmentation_head"]).local_entries(module)


def test_a_weight_that_would_leave_under_another_name_is_refused() -> None:
    net = nn.ModuleDict(
        {"first": nn.Linear(2, 2), "head": nn.Linear(2, 2), "other": nn.Linear(2, 2)}
    )
    net["head"].weight = net["first"].weight
    with pytest.raises(ConfigError, match=r"'net.head.weight' is personal, .* 'net.first.weight'"):
        FedAvg(personal=["head"]).local_entries(Task(net))
    both = FedAvg(personal=["head", "first"]).local_entries(Task(net))
    assert owners(both, 2) == {"net.head", "net.first"}
    assert FedAvg(personal=["other"]).local_entries(Task(net))


def test_a_name_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"but got 'head'. Write \['head'\]"):
        FedAvg(personal="head")


def test_a_wrong_pattern_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="matches no layer"):
        toy_run(tmp_path, toy_experiment(algorithm=FedAvg(personal=["head"])))


def test_shared_parameters_are_the_trainable_ones_that_travel() -> None:
    module = ToyModule(batch_norm=True)
    module.net[0].bias.requires_grad_(False)
    found = FedAvg(personal=["3"], batch_norm="local").shared_parameters(module)
    assert list(found) == ["net.0.weight"]
    assert found["net.0.weight"] is module.net[0].weight


def test_the_bounds_have_nothing_personal() -> None:
    module = ToyModule(batch_norm=True)
    for bound in (Local, Centralised):
        with pytest.raises(TypeError, match="personal"):
            bound(personal=["3"])  # type: ignore[call-arg]
    # pooled BatchNorm must reach the sites, whatever a stacked configuration says
    assert Centralised(batch_norm="local").local_entries(module) == set()
    assert make_layout(module, Local().local_entries(module)).length == 0
