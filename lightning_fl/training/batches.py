"""Cut a batch of any nested structure into disjoint parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lightning_fl.errors import ConfigError


def _leaves(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _leaves(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for value in batch:
            yield from _leaves(value)


def batch_length(batch: Any) -> int:
    """Count the samples: the first dimension of the batch's first tensor that has one."""
    for leaf in _leaves(batch):
        if leaf.dim() > 0:
            return leaf.shape[0]
    raise ConfigError("The batch holds no tensor with a batch dimension, so it cannot be cut.")


def cut(batch: Any, parts: int) -> list[Any]:
    """Cut a batch into disjoint parts, of sizes that differ by one at most.

    A batch is tensors in any nesting of mappings, tuples and lists. Tensors and lists of strings
    whose length is that of the batch are cut. Everything else (scalars, constants) goes to every
    part as it is. Tensors of the parts are copies, so that `replace` may overwrite the batch.

    Raises:
        ConfigError: the batch has fewer samples than parts.
    """
    length = batch_length(batch)
    if length < parts:
        raise ConfigError(
            f"A batch of {length} samples cannot be cut into {parts} disjoint batches. Raise "
            f"`batch_size` to a multiple of {parts} or drop the last, smaller batch."
        )
    bounds = [round(i * length / parts) for i in range(parts + 1)]
    slices = [slice(a, b) for a, b in pairwise(bounds)]
    return [_take(batch, part, length) for part in slices]


def _take(value: Any, part: slice, length: int) -> Any:
    if isinstance(value, Tensor):
        return value[part].clone() if value.dim() and value.shape[0] == length else value
    if isinstance(value, Mapping):
        return {key: _take(item, part, length) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_take(item, part, length) for item in value))
    if isinstance(value, list | tuple):
        if isinstance(value, list) and len(value) == length and next(_leaves(value), None) is None:
            return value[part]
        return type(value)(_take(item, part, length) for item in value)
    return value


def replace(batch: Any, part: Any) -> None:
    """Make `batch` hold `part`, in place.

    Lightning hands one batch object to its callbacks and to `training_step`. So a callback can
    change what the step sees only by replacing what is inside.
    """
    if isinstance(batch, Tensor):
        batch.data = part.data
    elif isinstance(batch, Mapping):
        for key, value in batch.items():
            replace(value, part[key])
    elif isinstance(batch, list) and len(batch) != len(part):
        batch[:] = part  # a list of strings, one a sample
    elif isinstance(batch, list | tuple):
        for value, new in zip(batch, part, strict=True):
            replace(value, new)


def contents(batch: Any) -> Callable[[], None]:
    """Remember what a batch holds, and return a function that undoes `replace`."""
    whole = apply_to_collection(batch, Tensor, lambda tensor: tensor.data)
    return partial(replace, batch, whole)


def to_float64(batch: Any) -> Any:
    """Return the batch with every floating-point tensor in double precision."""
    return apply_to_collection(
        batch, Tensor, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor
    )
