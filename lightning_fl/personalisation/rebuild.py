"""A personal model from its file: the averaging that a site has put around its net is redone."""

import copy
import re

import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.ensemble import MeanNet
from lightning_fl.personalisation.mirror import MirrorNet
from lightning_fl.training.lazy_layers import copy_of
from lightning_fl.training.output_maps import output_maps

NET = "net."
"""Prefix of the net's entries in the state of a task."""
MIRRORED = "net."
"""Prefix of the net's entries in the state of a MirrorNet."""


def rebuild(template: pl.LightningModule, state: dict[str, Tensor]) -> pl.LightningModule:
    """Copy the task's module and load the weights of a file into the copy.

    Mirror and Ensemble wrap the net, and the names of the entries tell how: "net.net.x" is entry x
    of a net that also looks at the mirror image, "net.members.0.x" that of the first of several.

    Raises:
        ConfigError: the weights do not belong to this network.
    """
    module = copy_of(template)
    names = {name.removeprefix(NET) for name in state if name.startswith(NET)}
    if isinstance(getattr(module, "net", None), nn.Module):
        module.net = _wrapped(module, module.get_submodule("net"), names)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"The weights do not belong to the run's network: {error}") from error
    return module


def _wrapped(module: pl.LightningModule, net: nn.Module, names: set[str]) -> nn.Module:
    """Wrap the net so that its entries have these names."""
    if not names or set(net.state_dict()) == names:
        return net
    if all(name.startswith(MIRRORED) for name in names):
        inner = {name.removeprefix(MIRRORED) for name in names}
        return MirrorNet(_wrapped(module, net, inner), *output_maps(module))
    matches = [re.fullmatch(r"members\.(\d+)\.(.+)", name) for name in names]
    entries = {(int(match[1]), match[2]) for match in matches if match}
    if len(entries) < len(names):
        return net  # of another network: loading says which entries are missing
    members = []
    for number in range(max(number for number, _ in entries) + 1):
        inner = {name for member, name in entries if member == number}
        members.append(_wrapped(module, copy.deepcopy(net), inner))
    return MeanNet(members, *output_maps(module))
