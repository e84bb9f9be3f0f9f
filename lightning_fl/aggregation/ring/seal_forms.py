"""Write SEAL objects as the numbers in them, so that nobody else's bytes reach SEAL's parser.

What SEAL saves is a frame of headers, sizes and parameters around polynomial coefficients. Forged
headers can end the process (SEAL 4.1 aborts on a nested header of its old format), so a message
holds the numbers alone; the receiver puts the frame around them that it makes itself. SEAL then
checks each number against its modulus.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, chain

import zstandard

from lightning_fl.wire.messages import MessageError

HEADER = 16
"""Bytes of SEAL's outer header: magic, its length, version, compression, reserved, total size."""
SEED = 64
"""Bytes of the seed that stands for the second half of a fresh symmetric ciphertext."""


@dataclass(frozen=True)
class Form:
    """Describe how SEAL writes one kind of object.

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
        """Learn the form of an object that SEAL saved here.

        `gaps` are the bytes of the fixed parts between runs; what is left comes first.
        """
        body = _inflate(saved)
        before = len(body) - sum(sizes) - sum(gaps)
        pieces = _cut(body, chain(*zip((before, *gaps), sizes, strict=True)))
        return cls(saved[3:5], tuple(pieces[::2]), sizes)

    def numbers(self, saved: bytes) -> bytes:
        """Return the numbers of an object that SEAL saved here."""
        lengths = chain(*zip(map(len, self.fixed), self.sizes, strict=True))
        return b"".join(_cut(_inflate(saved), lengths)[1::2])

    def frame(self, numbers: bytes | memoryview) -> bytes:
        """Put numbers from elsewhere into a frame made here, which SEAL can load.

        Raises:
            MessageError: there are too many or too few of them.
        """
        if len(numbers) != self.size:
            raise MessageError(f"{len(numbers)} bytes arrived where {self.size} were due.")
        runs = _cut(bytes(numbers), self.sizes)
        body = b"".join(chain(*zip(self.fixed, runs, strict=True)))
        total = (HEADER + len(body)).to_bytes(8, "little")
        return b"\x5e\xa1\x10" + self.version + bytes(3) + total + body


def _cut(data: bytes, lengths: Iterable[int]) -> list[bytes]:
    sizes = list(lengths)
    return [data[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


def _inflate(saved: bytes) -> bytes:
    """Return the body of an object saved here; byte 5 names the compression of this SEAL."""
    body = saved[HEADER:]
    if saved[5] == 2:
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return zlib.decompress(body) if saved[5] == 1 else body
