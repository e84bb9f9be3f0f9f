"""Personal layers: which entries of a module stay at its site, by the names of its layers.

Patterns are resolved once, against the module. Personal layers start equal at every site.
"""

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
    """Return the names of a module's layers that a pattern matches.

    A pattern is a layer's name, an fnmatch pattern of names, or "last_decoder_block". It may leave
    out the attribute that holds the net: "decoder" is "net.decoder" as well. A "*" matches dots
    too: "*.head" is any layer called head.
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
    """Name, as in `state_dict`, everything in the layers that the patterns match.

    Raises:
        ConfigError: a pattern matches no layer that has weights or buffers; names the setting.
    """
    entries: set[str] = set()
    for pattern in patterns:
        matched = entries_of(module, matching_layers(module, pattern))
        if not matched:
            raise ConfigError(_no_layer(module, pattern, setting))
        entries |= matched
    return entries


def entries_of(module: nn.Module, layers: Collection[str]) -> set[str]:
    """Name, as in `state_dict`, everything in some layers; "" is the module itself."""
    inside = tuple(f"{layer}." if layer else "" for layer in layers)
    return {entry for entry in module.state_dict() if entry.startswith(inside)}


def check_something_is_shared(module: nn.Module, local: Collection[str], personal: object) -> None:
    """Refuse local entries that leave no trainable weight to average."""
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    if trained <= set(local):
        raise ConfigError(
            f"`personal: {personal}` leaves no trainable weight to share. Name fewer layers, or "
            "use the algorithm Local, in which every site trains alone."
        )


def check_ties(module: nn.Module, local: Collection[str]) -> None:
    """Refuse a weight of two layers that stays under one name and travels under the other."""
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


def _last_decoder_blocks(module: nn.Module) -> set[str]:
    names = [name for name, _ in module.named_modules() if f".{name}".endswith(".decoder")]
    blocks = (_last_block(module.get_submodule(name), name) for name in names)
    return {block for block in blocks if block}


def _last_block(layer: nn.Module, name: str) -> str:
    """Name the last child that convolves or multiplies, inside a list if it is one; or ""."""
    for child, block in reversed(list(layer.named_children())):
        if any(weight.ndim > 1 for weight in block.parameters()):
            path = f"{name}.{child}"
            is_list = isinstance(block, nn.ModuleList | nn.ModuleDict)
            return (_last_block(block, path) or path) if is_list else path
    return ""


def _no_layer(module: nn.Module, pattern: str, setting: str) -> str:
    named = [name for name in _layer_names(module) if name and entries_of(module, [name])]
    shown = sorted(named, key=lambda name: name.count("."))[:10]
    more = ", ..." if len(named) > len(shown) else ""
    if pattern == LAST_DECODER_BLOCK:
        reason = "but this net has no layer called decoder. Name a layer instead"
    else:
        reason = (
            "which matches no layer with weights. Use a layer's name or a pattern such as '*.head'"
        )
    return (
        f"`{setting}` has {pattern!r}, {reason}. Layers of this module are "
        f"{', '.join(shown)}{more}."
    )
