"""Says which names there are where a setting names a class that is not there."""

import re
from inspect import isabstract

from lightning_fl.aggregation import Aggregator
from lightning_fl.algorithms import Algorithm, ServerOptimizer
from lightning_fl.engines import Engine
from lightning_fl.personalisation import Candidate

KINDS: dict[str, type] = {
    "algorithm": Algorithm,
    "aggregator": Aggregator,
    "engine": Engine,
    "server": ServerOptimizer,
    "candidates": Candidate,
}
"""Settings whose classes are the project's own, with what they derive from."""
AUDIT = "lightning_fl.privacy."
"""Rings of an audit can be looked into; they are no choice for a run."""

_KEY = re.compile(r'Parser key "(\w+)":')
_UNKNOWN = re.compile(
    r"Expected a dot import path string: (?P<short>\S+)"
    r"|has no attribute '(?P<attribute>\w+)'"
    r"|given class_path '(?P<path>[\w.]+)':\s+No module named"
)


def known_names(kind: type) -> list[str]:
    """Short names of the project's classes of a kind, sorted."""
    found, todo = set(), [kind]
    while todo:
        todo += (known := todo.pop()).__subclasses__()
        own = known.__module__.startswith("lightning_fl.") and known is not kind
        own = own and not known.__module__.startswith(AUDIT)
        if own and not isabstract(known):
            found.add(known.__name__)
    return sorted(found)


def explain(message: str) -> str:
    """An error message of jsonargparse, in our words where it is about an unknown class."""
    key, unknown = _KEY.search(message), _UNKNOWN.search(message)
    if key is None or unknown is None or key[1] not in KINDS:
        return message
    name = next(part for part in unknown.groups() if part)
    return (
        f"Unknown `{key[1]}` {name!r}; known are {', '.join(known_names(KINDS[key[1]]))}. "
        "A class of your own is named by its full import path."
    )
