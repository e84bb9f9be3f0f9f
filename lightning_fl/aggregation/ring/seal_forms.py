"""SEAL objects as the numbers in them, so that nobody else's bytes reach SEAL's parser.

What SEAL saves is a frame of headers, sizes and parameters around polynomial coefficients. Forged
headers can end the process (SEAL 4.1 aborts on a nested header of its old format), so a message
holds the numbers alone; the receiver puts the frame around them that it makes itself. SEAL then
checks each number against its modulus.
"""

import zlib
from dataclasses import dataclass

import zstandard

from lightning_fl.wire.messages import MessageError

HEADER = 16
"""Bytes of SEAL's outer header: magic, its length, version, compression, reserved, total size."""
SEED = 64
"""Bytes of the seed that stands for the second half of a fresh symmetric ciphertext."""


@dataclass(frozen=True)
class Form:
    """How SEAL writes one kind of object.

    Attributes:
        version: SEAL's version, two bytes.
        fixed: the bytes before each run of numbers.
        sizes: bytes of each run of numbers.
    """

    version: bytes
    fixed: tuple[bytes, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of all numbers of an object."""
        return sum(self.sizes)

    @classmethod
    def of(cls, saved: bytes, sizes: tuple[int, ...], gaps: tuple[int, ...] = ()) -> "Form":
        """The form of an object that SEAL saved here.

        Args:
            saved: as `save` wrote it.
            sizes: bytes of each run of numbers.
            gaps: bytes of the fixed parts between runs; what is left comes first.
        """
        body = _inflate(saved)
        before = len(body) - sum(sizes) - sum(gaps)
        fixed, position = [], 0
        for gap, size in zip((before, *gaps), sizes, strict=True):
            fixed.append(body[position : position + gap])
            position += gap + size
        return cls(saved[3:5], tuple(fixed), sizes)

    def numbers(self, saved: bytes) -> bytes:
        """The numbers of an object that SEAL saved here."""
        body, position, found = _inflate(saved), 0, []
        for fixed, size in zip(self.fixed, self.sizes, strict=True):
            position += len(fixed)
            found.append(body[position : position + size])
            position += size
        return b"".join(found)

    def frame(self, numbers: bytes | memoryview) -> bytes:
        """What SEAL can load: numbers from elsewhere in a frame made here.

        Raises:
            MessageError: there are too many or too few of them.
        """
        if len(numbers) != self.size:
            raise MessageError(f"{len(numbers)} bytes arrived where {self.size} were due.")
        parts, position = [], 0
        for fixed, size in zip(self.fixed, self.sizes, strict=True):
            parts += [fixed, numbers[position : position + size]]
            position += size
        total = HEADER + sum(len(part) for part in parts)
        head = b"\x5e\xa1\x10" + self.version + bytes(3) + total.to_bytes(8, "little")
        return b"".join([head, *parts])


def _inflate(saved: bytes) -> bytes:
    """The body of something saved here; byte 5 names the compression SEAL was built with."""
    body = saved[HEADER:]
    if saved[5] == 2:
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return zlib.decompress(body) if saved[5] == 1 else body
