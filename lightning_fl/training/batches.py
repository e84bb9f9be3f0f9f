"""Cut a batch of any nested structure into disjoint parts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

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
    """Number of samples: the first dimension of the batch's first tensor.

    Raises:
        ConfigError: the batch holds no tensor with a batch dimension.
    """
    for leaf in _leaves(batch):
        if leaf.dim() > 0:
            return leaf.shape[0]
    raise ConfigError("The batch holds no tensor with a batch dimension, so it cannot be cut.")


def cut(batch: Any, parts: int) -> list[Any]:
    """Disjoint parts of a batch, of sizes that differ by one at most.

    Tensors and lists of strings whose length is that of the batch are cut; everything else
    (scalars, constants) goes to every part as it is. Tensors of the parts are copies, so that
    `replace` may overwrite the batch.

    Args:
        batch: tensors in any nesting of mappings, tuples and lists.
        parts: how many.

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
    """Make `batch` hold `part`, in place, so that whoever holds the batch sees the part.

    Lightning hands the same batch object to its callbacks and to `training_step`; replacing what
    is inside is the one way for a callback to change what the step sees.
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
    """Remember what a batch holds; calling the result undoes `replace`."""
    tensors = [(leaf, leaf.data) for leaf in _leaves(batch)]
    lists = [(texts, list(texts)) for texts in _text_lists(batch)]

    def give_back() -> None:
        for leaf, data in tensors:
            leaf.data = data
        for texts, whole in lists:
            texts[:] = whole

    return give_back


def _text_lists(batch: Any) -> Iterator[list[Any]]:
    if isinstance(batch, list) and next(_leaves(batch), None) is None:
        yield batch
    elif isinstance(batch, Mapping | list | tuple):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from _text_lists(value)


def to_float64(batch: Any) -> Any:
    """The batch with every floating-point tensor in double precision."""
    if isinstance(batch, Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, Mapping):
        return {key: to_float64(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_float64(value) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_float64(value) for value in batch)
    return batch
