"""Personal layers: which entries of a module stay at its site, by the names of its layers."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from lightning_fl.errors import ConfigError

LAST_DECODER_BLOCK = "last_decoder_block"
"""Names the last block of the layer called `decoder`, which every net of smp has.

That is its last child with a weight of two or more dimensions or, where that child is a list, the
last such one in the list: `decoder.blocks.4` of a Unet, `decoder.block2` of a DeepLabV3Plus.
"""


def matching_layers(module: nn.Module, pattern: str) -> set[str]:
    """Names of the layers of a module that a pattern names.

    Args:
        module: usually a LightningModule with its net as an attribute.
        pattern: a layer's name or an fnmatch pattern of names, with or without the attribute that
            holds the net ("net.decoder" is "decoder" as well; "*.head" is any layer called head;
            a "*" matches dots too), or "last_decoder_block".
    """
    if pattern == LAST_DECODER_BLOCK:
        return _last_decoder_blocks(module)
    return {
        name
        for name in _layer_names(module)
        if fnmatchcase(name, pattern) or fnmatchcase(name.partition(".")[2], pattern)
    }


def personal_entries(
    module: nn.Module, patterns: Sequence[str], *, setting: str = "personal"
) -> set[str]:
    """Names, as in `state_dict`, of everything in the layers that the patterns name.

    Args:
        module: usually a LightningModule with its net as an attribute.
        patterns: see `matching_layers`.
        setting: which holds the patterns, for the message.

    Raises:
        ConfigError: a pattern names no layer that has weights or buffers.
    """
    found: set[str] = set()
    for pattern in patterns:
        entries = _entries(module, matching_layers(module, pattern))
        if not entries:
            raise ConfigError(_no_layer(module, pattern, setting))
        found |= entries
    return found


def check_something_is_shared(module: nn.Module, local: Collection[str], personal: object) -> None:
    """A federation needs a weight that is trained and averaged.

    Args:
        module: of a site.
        local: names of the entries that stay there.
        personal: the patterns, for the message.

    Raises:
        ConfigError: every trainable weight stays at the site.
    """
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    if trained <= set(local):
        raise ConfigError(
            f"`personal: {personal}` leaves no trainable weight to share. Name fewer layers, or "
            "use the algorithm Local, in which every site trains alone."
        )


def check_ties(module: nn.Module, local: Collection[str]) -> None:
    """A weight that two layers share must stay or travel under both names.

    Raises:
        ConfigError: it would stay under one name and leave the site under the other.
    """
    names = defaultdict(list)
    for name, weight in module.named_parameters(remove_duplicate=False):
        names[id(weight)].append(name)
    for tied in names.values():
        staying = [name for name in tied if name in local]
        leaving = [name for name in tied if name not in local]
        if staying and leaving:
            raise ConfigError(
                f"{staying[0]!r} is personal, but it is the same weight as {leaving[0]!r}, which "
                "would leave the site. Name both layers in `personal`, or neither."
            )


def _layer_names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_modules(remove_duplicate=False)]


def _entries(module: nn.Module, layers: Collection[str]) -> set[str]:
    return {entry for entry in module.state_dict() if not _owners(entry).isdisjoint(layers)}


def _owners(entry: str) -> set[str]:
    """The layers that an entry is in: "net.a.weight" is in "", "net" and "net.a"."""
    parts = entry.split(".")
    return {".".join(parts[:depth]) for depth in range(len(parts))}


def _last_decoder_blocks(module: nn.Module) -> set[str]:
    names = [name for name, _ in module.named_modules() if f".{name}".endswith(".decoder")]
    found = (_last_block(module.get_submodule(name), name) for name in names)
    return {name for name in found if name}


def _last_block(layer: nn.Module, name: str) -> str:
    """Name of the last child that convolves or multiplies, inside a list if it is one; or ""."""
    for child, block in reversed(list(layer.named_children())):
        if any(weight.ndim > 1 for weight in block.parameters()):
            path = f"{name}.{child}"
            is_list = isinstance(block, nn.ModuleList | nn.ModuleDict)
            return (_last_block(block, path) or path) if is_list else path
    return ""


def _no_layer(module: nn.Module, pattern: str, setting: str) -> str:
    named = [name for name in _layer_names(module) if name and _entries(module, [name])]
    shown = sorted(named, key=lambda name: name.count("."))[:10]
    more = ", ..." if len(named) > len(shown) else ""
    known = f"Layers of this module are {', '.join(shown)}{more}"
    if pattern == LAST_DECODER_BLOCK:
        return (
            f"`{setting}` has {pattern!r}, but this net has no layer called decoder. "
            f"Name a layer instead. {known}."
        )
    return (
        f"`{setting}` has {pattern!r}, which matches no layer with weights. Use a layer's name or "
        f"a pattern such as '*.head'. {known}."
    )
