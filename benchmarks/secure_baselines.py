"""Make the sum of secure_aggregation.py by TenSEAL, with two published settings, to compare.

Both keep one secret key for everybody and encrypt a vector for each tensor. Making that key is not
counted, since it may serve a whole run. What is counted beside the ciphertexts is the mean that
the decrypting client hands on as float32, as in our ring.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import tenseal as ts
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_fl.seeds import derive_seed
from lightning_fl.training.layout import Layout

MASK_SD = 1e4
"""Standard deviation of the paper's mask."""
UPDATE_SD = 1e-2
DEGREE = 8192
Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sum:
    """What one aggregation gave and took.

    Attributes:
        mean: shape (length,).
        cpu_s: processor seconds of all parties together.
        bytes_up: sent by all sites together.
        clipped: values that did not fit the grid and are carried to the next round.
        parts: processor seconds by part, where they are known.
    """

    mean: Tensor
    cpu_s: float
    bytes_up: int
    clipped: int = 0
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Updates to be averaged, the same for every way.

    Attributes:
        layout: of an update.
        samples: training samples of each site.
        updates: of each site, shape (length,).
    """

    layout: Layout
    samples: dict[str, int]
    updates: dict[str, Tensor]

    @classmethod
    def make(cls, layout: Layout, sites: int) -> "Problem":
        """Draw normal updates, and samples that differ from site to site."""
        names = site_names(sites)
        samples = {name: 200 - 30 * (i % 5) for i, name in enumerate(names)}
        return cls(layout, samples, {name: make_update(layout, name) for name in names})

    def exact(self) -> Tensor:
        """Return the mean in float64."""
        total = sum(n * self.updates[name].double() for name, n in self.samples.items())
        return torch.as_tensor(total / sum(self.samples.values()))

    def weighted(self, site: str) -> list[Vector]:
        """Return a site's update times its share of the samples, a flat float32 array a tensor."""
        share = np.float32(self.samples[site] / sum(self.samples.values()))
        sizes = [int(np.prod(shape)) for _, shape in self.layout.shared]
        ends = np.cumsum([0, *sizes]).tolist()
        update = self.updates[site].numpy() * share
        return [update[a:b] for a, b in pairwise(ends)]


def site_names(sites: int) -> list[str]:
    """Return names in alphabetical order."""
    return [f"S{i:03d}" for i in range(sites)]


def make_update(layout: Layout, site: str) -> Tensor:
    """Draw normal values, the same for a site in every run, shape (length,)."""
    generator = torch.Generator().manual_seed(derive_seed(0, site, "update"))
    return UPDATE_SD * torch.randn(layout.length, generator=generator)


def unet_layout(filters: float) -> Layout:
    """Return the 64 tensors of a U-Net with BatchNorm, three input channels and two classes.

    Args:
        filters: of the first level; 16 gives the paper's 1.94 M parameters.
    """
    widths = [round(filters * 2**level) for level in range(5)]
    shapes: list[tuple[int, ...]] = []

    def double(inputs: int, outputs: int) -> None:
        for channels in (inputs, outputs):
            shapes.extend([(outputs, channels, 3, 3), (outputs,), (outputs,)])

    for inputs, outputs in pairwise([3, *widths]):
        double(inputs, outputs)
    for below, width in pairwise(reversed(widths)):
        shapes.extend([(below, width, 2, 2), (width,)])
        double(2 * width, width)
    shapes.extend([(2, widths[0], 1, 1), (2,)])
    return Layout(tuple((f"w{i}", shape) for i, shape in enumerate(shapes)), ())


def paper(problem: Problem) -> Sum:
    """Sum in a ring with the paper's parameters and the initiator's Gaussian mask in float32."""
    with _quiet():
        return _timed(_paper, _context(26, 31, *[26] * 6, 31, symmetric=False), problem)


def _paper(context: Any, problem: Problem) -> tuple[list[Vector], int]:
    initiator, *others = problem.samples
    generator = np.random.default_rng(derive_seed(0, "mask"))
    tensors = problem.weighted(initiator)
    masks = [generator.normal(0, MASK_SD, len(t)).astype(np.float32) for t in tensors]
    travelling = _encrypted(context, [t + mask for t, mask in zip(tensors, masks, strict=True)])
    sent = _length(travelling)
    for site in others:
        mine = [ts.ckks_vector(context, tensor) for tensor in problem.weighted(site)]
        travelling = _sum(context, travelling, mine)
        sent += _length(travelling)
    sums = zip(_decrypted(context, travelling), masks, strict=True)
    return [masked - mask for masked, mask in sums], sent


def nvflare(problem: Problem) -> Sum:
    """Sum at a server, with the parameters that NVFlare's HE builder sets by default."""
    with _quiet():
        return _timed(_nvflare, _context(40, 60, 40, 40, symmetric=True), problem)


def _nvflare(context: Any, problem: Problem) -> tuple[list[Vector], int]:
    arrived = [_encrypted(context, problem.weighted(site)) for site in problem.samples]
    first, *others = arrived
    total = [ts.ckks_vector_from(context, data) for data in first]
    for other in others:
        for mine, data in zip(total, other, strict=True):
            mine += ts.ckks_vector_from(context, data)
    returned = [vector.serialize() for vector in total]
    return _decrypted(context, returned), sum(_length(a) for a in arrived)


@cache
def _context(scale: int, *primes: int, symmetric: bool) -> Any:
    kind = ts.ENCRYPTION_TYPE
    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        DEGREE,
        coeff_mod_bit_sizes=list(primes),
        encryption_type=kind.SYMMETRIC if symmetric else kind.ASYMMETRIC,
        n_threads=1,
    )
    context.global_scale = 2**scale
    return context


def _encrypted(context: Any, tensors: Sequence[Vector]) -> list[bytes]:
    return [ts.ckks_vector(context, tensor).serialize() for tensor in tensors]


def _sum(context: Any, travelling: Sequence[bytes], mine: Sequence[Any]) -> list[bytes]:
    pairs = zip(travelling, mine, strict=True)
    return [(ts.ckks_vector_from(context, data) + vector).serialize() for data, vector in pairs]


def _decrypted(context: Any, data: Sequence[bytes]) -> list[Vector]:
    return [np.array(ts.ckks_vector_from(context, piece).decrypt()) for piece in data]


def _length(pieces: Sequence[bytes]) -> int:
    return sum(len(piece) for piece in pieces)


def _timed(
    run: Callable[[Any, Problem], tuple[list[Vector], int]], context: Any, problem: Problem
) -> Sum:
    start = time.process_time()
    tensors, sent = run(context, problem)
    mean = torch.from_numpy(np.concatenate(tensors).astype(np.float32))
    return Sum(mean, time.process_time() - start, sent + mean.nbytes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what TenSEAL's C++ half prints about each vector that needs two ciphertexts."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a device
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
