"""Gaussian noise that nobody can foretell: ChaCha20 under a key from the operating system."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def gaussian(key: bytes, start: int, count: int) -> Floats:
    """Draw standard normal numbers, shape (count,); equal arguments give equal numbers.

    Box and Muller's transform of uniform numbers of 53 bits. None is larger than 8.7, which leaves
    out a part of the tails of probability below 2^-53.

    Args:
        key: 32 bytes that only the site knows.
        start: names the stream; another start gives other numbers.
        count: numbers wanted.
    """
    pairs = (count + 1) // 2
    nonce = bytes(8) + start.to_bytes(8, "little")  # ChaCha20's counter comes first
    data = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(16 * pairs))
    words = np.frombuffer(data, dtype="<u8").reshape(2, pairs)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[0]))
    angle = 2 * np.pi * uniform[1]
    numbers: Floats = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return numbers[:count]
