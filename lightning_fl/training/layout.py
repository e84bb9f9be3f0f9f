"""A module's state as one flat vector, and which of its entries travel."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_fl.training.state_checks import check_state, infinite_constants

State = dict[str, Tensor]
"""A state_dict: entry names to tensors."""


@dataclass(frozen=True)
class Layout:
    """Name the entries of a module's state that are shared, in the order of the flat vector.

    What travels is one vector, so that an aggregator needs to know nothing of layers.

    Attributes:
        shared: (name, shape) of every floating-point entry that travels.
        private: names of the entries that stay at the site: local layers, every integer buffer
            (BatchNorm's `num_batches_tracked` has no meaningful mean), and constant buffers that
            hold infinities.
        late: names of those shared entries that a site keeps its own values of from some round on
            (see `Algorithm`, `shared_rounds`). They stay in the vector, whose layout never changes.
        trained: names of those shared entries that are trainable weights, and no statistics.
        extra: names of those shared entries that are the algorithm's and none of the module's.
    """

    shared: tuple[tuple[str, tuple[int, ...]], ...]
    private: tuple[str, ...]
    late: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """The number of values in the flat vector."""
        return sum(self._sizes)

    @property
    def fingerprint(self) -> str:
        """A short digest of names and shapes: equal for equal networks, different otherwise."""
        text = repr((self.shared, self.private, self.late))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def mask(self, names: Collection[str]) -> Tensor:
        """Return which values of the flat vector are in some entries; bool, shape (length,)."""
        flags = torch.tensor([name in names for name, _ in self.shared])
        return flags.repeat_interleave(torch.tensor(self._sizes))

    @property
    def _sizes(self) -> list[int]:
        return [torch.Size(shape).numel() for _, shape in self.shared]


def make_layout(
    module: nn.Module,
    local: Collection[str] = (),
    *,
    late: Collection[str] = (),
    extra: Mapping[str, tuple[int, ...]] | None = None,
) -> Layout:
    """Sort a module's entries into shared and private ones.

    Args:
        module: any module.
        local: names of entries that stay at the site, as in its `state_dict`.
        late: names of entries that are shared at first and stay at the site later.
        extra: name and shape of what travels beside the module's entries, behind them.

    Raises:
        ConfigError: the state cannot be averaged; see `check_state`.
    """
    check_state(module)
    constants = infinite_constants(module)
    shared: list[tuple[str, tuple[int, ...]]] = []
    private: list[str] = []
    for name, value in module.state_dict().items():
        if name in local or name in constants or not value.is_floating_point():
            private.append(name)
        else:
            shared.append((name, tuple(value.shape)))
    weights = {n for n, p in module.named_parameters(remove_duplicate=False) if p.requires_grad}
    return Layout(
        (*shared, *(extra or {}).items()),
        tuple(private),
        late=tuple(name for name, _ in shared if name in late),
        trained=tuple(name for name, _ in shared if name in weights),
        extra=tuple(extra or ()),
    )


def to_vector(state: Mapping[str, Tensor], layout: Layout) -> Tensor:
    """Return the shared entries as one float32 vector of shape (length,) on the CPU.

    Extra entries that are not in `state` are 0.
    """
    state = {**{n: torch.zeros(s) for n, s in layout.shared if n in layout.extra}, **state}
    parts = [state[name].detach().reshape(-1).float().cpu() for name, _ in layout.shared]
    return torch.cat(parts) if parts else torch.zeros(0)


def from_vector(vector: Tensor, layout: Layout) -> State:
    """Return the shared entries, by name, of a flat vector of shape (length,).

    Raises:
        ValueError: the vector has another length than the layout.
    """
    if vector.shape != (layout.length,):
        raise ValueError(
            f"Expected a vector of {layout.length} values, but got shape {tuple(vector.shape)}."
        )
    parts = torch.split(vector, layout._sizes)
    return {n: p.reshape(s) for (n, s), p in zip(layout.shared, parts, strict=True)}


def vector_digest(vector: Tensor) -> str:
    """Return the SHA-256 of a float32 vector's bytes, in hexadecimal."""
    return hashlib.sha256(vector.detach().cpu().contiguous().numpy().data).hexdigest()


def digest_of_memory(memory: Mapping[str, Tensor]) -> str:
    """Return the digest of what a server optimiser remembers; "" for nothing."""
    return ",".join(f"{name}:{vector_digest(memory[name])}" for name in sorted(memory))


def private_entries(state: Mapping[str, Tensor], layout: Layout, *, late: bool = False) -> State:
    """Copy the entries that stay at the site; those of `layout.late` too if `late`."""
    names = (*layout.private, *layout.late) if late else layout.private
    return {name: state[name].detach().cpu().clone() for name in names}
