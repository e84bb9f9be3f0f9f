"""Write values as JSON that keeps their types: tuples, tensors, keys that are numbers."""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_fl.errors import ConfigError

TYPE = "__type__"
"""Key of the objects that stand for what JSON has no word for."""


def dumps(value: Any) -> str:
    """Return a value as text; numbers come back bit for bit.

    Raises:
        ConfigError: the value holds an object of another kind than those of `PLAIN` and `TYPED`.
    """
    return json.dumps(_encode(value))


def loads(text: str) -> Any:
    """Read the text that `dumps` made, or ordinary JSON."""
    return json.loads(text, object_hook=_decode)


def _encode(value: Any) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, np.generic):
        return _encode(value.item())
    if type(value) is list:
        return [_encode(item) for item in value]
    if type(value) is dict and all(type(key) is str and key != TYPE for key in value):
        return {key: _encode(item) for key, item in value.items()}
    for kind, (cls, parts, _) in TYPED.items():
        if isinstance(value, cls):
            return {TYPE: kind, "value": _encode(parts(value))}
    raise ConfigError(
        f"The state of a site's training holds a {type(value).__name__}, {value!r}, which cannot "
        "be kept from round to round. Use a learning-rate scheduler whose `state_dict` holds "
        "numbers, texts, tensors, lists, tuples and dicts of these."
    )


def _decode(value: dict[str, Any]) -> Any:
    if TYPE not in value:
        return value
    _, _, build = TYPED[value[TYPE]]
    return build(value["value"])


def _pairs(value: Mapping[Any, Any]) -> list[list[Any]]:
    return [[key, item] for key, item in value.items()]


def _tensor(parts: list[Any]) -> Tensor:
    name, values = parts
    return torch.tensor(values, dtype=getattr(torch, name))


PLAIN = (str, int, float, bool, type(None))
"""Types that JSON has words for."""
TYPED: dict[str, tuple[type | tuple[type, ...], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "counter": (Counter, _pairs, lambda pairs: Counter(dict(pairs))),
    "dict": ((dict, defaultdict), _pairs, dict),
    "tuple": (tuple, list, tuple),
    "deque": (deque, list, deque),
    "set": (set, list, set),
    "tensor": (Tensor, lambda t: [str(t.dtype).removeprefix("torch."), t.tolist()], _tensor),
}
"""What else is kept: its type, how it is taken apart, and how it is built again."""
