"""Carry bytes as tensors, and seal them, so that a result can be read whole or not at all."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.masks import stream
from lightning_fl.wire.messages import MessageError


def as_tensor(pieces: Sequence[bytes]) -> Tensor:
    """Join pieces to a uint8 tensor."""
    return torch.frombuffer(bytearray(b"".join(pieces)), dtype=torch.uint8)


def as_bytes(tensor: Tensor | None) -> memoryview:
    """Return what `as_tensor` joined.

    Raises:
        MessageError: it is not one row of bytes.
    """
    if tensor is None or tensor.dtype != torch.uint8 or tensor.dim() != 1:
        raise MessageError("A message lacks its bytes, or they are not one row of bytes.")
    return memoryview(tensor.numpy())  # type: ignore[arg-type]


def seal(key: bytes, block: int, data: bytes) -> bytes:
    """Hide data under a key stream that is used for this block alone; sealed data opens again."""
    pad = np.frombuffer(stream(key, block, len(data)), dtype=np.uint8)
    return (np.frombuffer(data, dtype=np.uint8) ^ pad).tobytes()


def unseal(key: bytes, block: int, sealed: Tensor) -> Tensor:
    """Open a block of sums, float32, with the key that the initiator gives out at the end.

    Raises:
        MessageError: the block is not a whole number of float32 values.
    """
    data = bytes(as_bytes(sealed))
    if len(data) % 4:
        raise MessageError(f"A block of {len(data)} bytes is not made of float32 values.")
    return torch.from_numpy(np.frombuffer(seal(key, block, data), dtype="<f4").copy())
