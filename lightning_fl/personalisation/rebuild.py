"""A personal model from its file: the averaging that a site has put around its net is redone."""

import copy
import re

import pytorch_lightning as pl
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from lightning_fl.personalisation.ensemble import MeanNet, OutputMap
from lightning_fl.personalisation.mirror import MirrorNet

NET = "net."
"""How the names of the net's entries begin in a task's state."""
MEMBERS = "members"
MIRRORED = "net"


def rebuild(template: pl.LightningModule, state: dict[str, Tensor]) -> pl.LightningModule:
    """A copy of the task's module with the weights of a file in it.

    Mirror and Ensemble wrap the net, and the names of the entries tell how: "net.net.x" is entry x
    of a net that also looks at the mirror image, "net.members.0.x" that of the first of several.

    Args:
        template: the module as a run's settings build it; is not changed.
        state: a `state_dict` from models/ of a run.

    Raises:
        ConfigError: the weights do not belong to this network.
    """
    module = copy.deepcopy(template)
    names = {name.removeprefix(NET) for name in state if name.startswith(NET)}
    if isinstance(getattr(module, "net", None), nn.Module):
        module.net = _wrapped(module, module.get_submodule("net"), names)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"The weights do not belong to the run's network: {error}") from error
    return module


def _wrapped(module: pl.LightningModule, net: nn.Module, names: set[str]) -> nn.Module:
    """The net, wrapped so that its entries have these names."""
    if not names or set(net.state_dict()) == names:
        return net
    maps: tuple[OutputMap, OutputMap] = module.output_maps()  # type: ignore[operator]
    if all(name.startswith(f"{MIRRORED}.") for name in names):
        inner = {name.removeprefix(f"{MIRRORED}.") for name in names}
        return MirrorNet(_wrapped(module, net, inner), *maps)
    matches = [re.fullmatch(rf"{MEMBERS}\.(\d+)\.(.+)", name) for name in names]
    found = {(int(match[1]), match[2]) for match in matches if match}
    if len(found) < len(names):
        return net  # of another network: loading says which entries are missing
    members = []
    for number in range(max(number for number, _ in found) + 1):
        inner = {name for n, name in found if n == number}
        members.append(_wrapped(module, copy.deepcopy(net), inner))
    return MeanNet(members, *maps)
