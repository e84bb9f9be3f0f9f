"""Check that a net's state can travel, and that training has left it sound."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lightning_fl.errors import ConfigError
from lightning_fl.training.batch_norm import batch_norm_modules

Shapes = dict[str, tuple[int, ...]]


def check_state(module: nn.Module) -> None:
    """Refuse a net whose state cannot be averaged, or is not there yet.

    Raises:
        ConfigError: an entry is lazy, complex or no tensor, or an old hook replaces a weight.
    """
    for name, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm | SpectralNorm):
                old = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
                raise ConfigError(
                    f"Layer {name!r} uses torch.nn.utils.{old}, whose weight cannot be copied. Use "
                    f"torch.nn.utils.parametrizations.{old} instead."
                )
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise ConfigError(
                f"Entry {name!r} is extra state ({type(value).__name__}) and no tensor, so it has "
                "no mean. Keep it in a buffer, or take `get_extra_state` out of the layer."
            )
        if is_lazy(value):
            raise ConfigError(
                f"Entry {name!r} belongs to a lazy layer that has no shape yet: a training step "
                "does not use it, or the data are at hospitals elsewhere. Call the net once on an "
                "example in its constructor, or use the layer with its input size."
            )
        if value.is_complex():
            raise ConfigError(f"Entry {name!r} is complex ({value.dtype}); use real weights.")


def infinite_constants(module: nn.Module) -> set[str]:
    """Name the buffers that hold infinities on purpose, such as masks of attention.

    BatchNorm's statistics are no constants.
    """
    statistics = {
        id(buffer)
        for part in batch_norm_modules(module).values()
        for buffer in part.buffers(recurse=False)
    }
    return {
        name
        for name, buffer in module.named_buffers()
        if id(buffer) not in statistics and bool(torch.isinf(buffer).any())
    }


def is_finite(module: nn.Module) -> bool:
    """Return whether no entry holds NaN or infinity, which would spoil a mean over sites."""
    constants = infinite_constants(module)
    return not any(
        bool(torch.isnan(value).any() if name in constants else (~torch.isfinite(value)).any())
        for name, value in module.state_dict().items()
    )


def shapes(module: nn.Module) -> Shapes:
    """Return the shape of every entry, by name."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def check_unchanged(before: Mapping[str, tuple[int, ...]], module: nn.Module) -> None:
    """Refuse a net whose entries have other names or shapes than before its first step.

    Raises:
        ConfigError: it has; names the entries.
    """
    after = shapes(module)
    changed = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    if changed:
        entries = ", ".join(f"{n!r} from {before.get(n)} to {after.get(n)}" for n in changed[:3])
        raise ConfigError(
            f"The net changes {len(changed)} entries of its state_dict when it is first used: "
            f"{entries}. Weights would travel that are not trained. Build all layers and buffers "
            "in the constructor."
        )
