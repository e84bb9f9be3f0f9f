"""Randomness by (seed, site, round, purpose), so that the order of sites changes nothing."""

import hashlib
import random

import numpy as np
import torch


def derive_seed(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on every label, and on nothing else.

    >>> derive_seed(0, "A", 3, "batches") == derive_seed(0, "A", 3, "batches")
    True
    """
    text = "\x1f".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch (CPU and CUDA) with one derived number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
