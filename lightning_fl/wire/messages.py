"""Encode messages as framed bytes: tensors as safetensors, never pickle."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

MAGIC = b"LightFL\x01"
"""First bytes of each message; the last of them is the version of the format."""
HEAD = len(MAGIC) + 8 + 32
"""Bytes before the body: magic, length of the body (little-endian), SHA-256 of the body."""
BLOCK_BYTES = 16 * 2**20
"""Tensors travel in blocks of this many bytes; below every engine's limit for a message."""
LONGEST_TEXT, LARGEST_NUMBER = 255, 2**31 - 1
"""Bounds of a frame's texts, e.g. names of sites, and of its numbers."""
COORDINATOR = "coordinator"
"""Name under which the coordinator sends and receives; no site may have it."""


class MessageError(ValueError):
    """A message that is damaged, of another run, or of another version."""


@dataclass(frozen=True)
class Message:
    """One message of a run.

    Attributes:
        sender: "coordinator" or a site's name.
        step: number of a block where a payload travels in several, else 0.
        info: small facts, as JSON.
        recipient: the site that it is for; "" for a broadcast.
        ring: identifier of the ring it belongs to, "" outside of one.
        context: fingerprint of the ring's encryption parameters and public key, "" before there
            is one.
        payload: the bytes this message was decoded from, which `encode` gives back.
    """

    run: str
    round: int
    sender: str
    step: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    recipient: str = ""
    ring: str = ""
    context: str = ""
    payload: bytes | None = field(default=None, repr=False, compare=False)

    def encode(self) -> bytes:
        """Encode as magic with the version, length, digest, and a safetensors file with the frame.

        A decoded message comes back byte for byte, so passing it on costs no second encoding.
        """
        if self.payload is not None:
            return self.payload
        frame = {k: v for k, v in vars(self).items() if k not in ("tensors", "payload")}
        body = safetensors.torch.save(self.tensors, {"frame": json.dumps(frame)})
        head = MAGIC + len(body).to_bytes(8, "little") + hashlib.sha256(body).digest()
        return head + body

    @classmethod
    def decode(cls, payload: bytes) -> "Message":
        """Decode what `encode` made; damage and another version are refused before parsing.

        Raises:
            MessageError: the bytes are no such message, are cut short or damaged, or come from
                another version of this package.
        """
        body = _checked_body(payload)
        try:
            length = int.from_bytes(body[:8], "little")
            frame = json.loads(json.loads(body[8 : 8 + length])["__metadata__"]["frame"])
            message = cls(**frame, tensors=safetensors.torch.load(body), payload=payload)
        except (
            *(ValueError, KeyError, TypeError, AttributeError, AssertionError, OverflowError),
            *(RuntimeError, SafetensorError),  # torch: sizes it cannot hold; too deep a nesting
        ) as error:
            raise MessageError(f"A message cannot be read: {error!r}.") from error
        wrong = [k for k, kind in _FRAME_TYPES.items() if type(getattr(message, k)) is not kind]
        if wrong:
            raise MessageError(f"A message has fields of a wrong type: {wrong}.")
        # What a site remembers of a message must not grow with what somebody sends.
        long = [name for name in _TEXTS if len(getattr(message, name)) > LONGEST_TEXT]
        large = [n for n in ("round", "step") if not 0 <= getattr(message, n) <= LARGEST_NUMBER]
        if long or large:
            raise MessageError(
                f"A message has fields out of their range: {[*long, *large]}. Texts have at most "
                f"{LONGEST_TEXT} characters, and numbers are between 0 and {LARGEST_NUMBER}."
            )
        return message


_TEXTS = ("run", "sender", "recipient", "ring", "context")
_FRAME_TYPES = dict.fromkeys(_TEXTS, str) | {"round": int, "step": int, "info": dict}


def frame_of(payload: bytes) -> dict[str, Any]:
    """Return the frame of an encoded message without reading its tensors; {} of anything else."""
    try:
        length = int.from_bytes(payload[HEAD : HEAD + 8], "little")
        header = json.loads(payload[HEAD + 8 : HEAD + 8 + length])
        frame = json.loads(header["__metadata__"]["frame"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}
    return frame if isinstance(frame, dict) else {}


def digest_of(payload: bytes) -> str:
    """Return the digest that an encoded message carries, in hexadecimal."""
    return payload[len(MAGIC) + 8 : HEAD].hex()


def _checked_body(payload: bytes) -> bytes:
    """Return the body; its digest finds accidents, and does not authenticate the sender."""
    magic, body = payload[:8], payload[HEAD:]
    if len(magic) == 8 and magic[:7] == MAGIC[:7] and magic != MAGIC:
        raise MessageError(
            f"A message has version {magic[7]}, but this side speaks {MAGIC[7]}. Install the "
            "same lightning-fl on both sides."
        )
    if magic != MAGIC or len(payload) < HEAD:
        raise MessageError(f"{len(payload)} bytes that arrived are no message, or a damaged one.")
    length = int.from_bytes(payload[8:16], "little")
    if length != len(body):
        raise MessageError(
            f"A message is damaged: it should have {length} bytes after its head, but has "
            f"{len(body)}; send it again."
        )
    if hashlib.sha256(body).hexdigest() != digest_of(payload):
        raise MessageError(f"A message of {len(payload)} bytes is damaged; send it again.")
    return body
