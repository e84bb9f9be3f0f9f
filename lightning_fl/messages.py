"""What crosses a site's boundary: framed bytes, tensors as safetensors, never pickle."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from torch import Tensor

MAGIC = b"LightFL\x01"
"""First bytes of each message; the last of them is the version of the format."""
BLOCK_BYTES = 48 * 2**20
"""Tensors travel in blocks of this many bytes; below every engine's limit for a message."""


class MessageError(ValueError):
    """A message that is damaged, of another run, or of another version."""


@dataclass(frozen=True)
class Message:
    """One message of a run.

    Attributes:
        run: identifier of the run.
        round: the round it belongs to.
        sender: "coordinator" or a site's name.
        step: number of a block where a payload travels in several, else 0.
        info: small facts, as JSON.
        tensors: by name.
    """

    run: str
    round: int
    sender: str
    step: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As bytes: magic with the version, a digest, a safetensors file with the frame."""
        frame = {k: v for k, v in vars(self).items() if k != "tensors"}
        body = safetensors.torch.save(self.tensors, {"frame": json.dumps(frame)})
        return MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def decode(cls, payload: bytes) -> "Message":
        """Back from `encode`.

        Raises:
            MessageError: the bytes are no such message, are damaged, or come from another version
                of this package.
        """
        magic, digest, body = payload[:8], payload[8:40], payload[40:]
        if len(magic) == 8 and magic[:7] == MAGIC[:7] and magic != MAGIC:
            raise MessageError(
                f"A message has version {magic[7]}, but this side speaks {MAGIC[7]}. Install the "
                "same lightning-fl on both sides."
            )
        if magic != MAGIC or hashlib.sha256(body).digest() != digest:
            raise MessageError(f"A message of {len(payload)} bytes is damaged; send it again.")
        length = int.from_bytes(body[:8], "little")
        frame = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["frame"])
        return cls(**frame, tensors=safetensors.torch.load(body))
