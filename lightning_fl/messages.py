"""What crosses a site's boundary: framed bytes, tensors as safetensors, never pickle."""

import json
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

VERSION = 1
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
        """As bytes: a safetensors file whose metadata is the frame."""
        frame = {k: v for k, v in vars(self).items() if k != "tensors"}
        metadata = {"frame": json.dumps({"version": VERSION, **frame})}
        return safetensors.torch.save(self.tensors, metadata)

    @classmethod
    def decode(cls, payload: bytes) -> "Message":
        """Back from `encode`.

        Raises:
            MessageError: the bytes are no such message, or of another version of this package.
        """
        try:
            length = int.from_bytes(payload[:8], "little")
            header = json.loads(payload[8 : 8 + length])
            frame = json.loads(header["__metadata__"]["frame"])
            tensors = safetensors.torch.load(payload)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise MessageError(
                f"A message of {len(payload)} bytes is damaged ({error}); send it again."
            ) from error
        version = frame.pop("version", None)
        if version != VERSION:
            raise MessageError(
                f"A message has version {version}, but this side speaks {VERSION}. Install the "
                "same lightning-fl on both sides."
            )
        return cls(**frame, tensors=tensors)
