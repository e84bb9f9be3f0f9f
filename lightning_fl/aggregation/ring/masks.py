"""Make masks: numbers that look random to everybody else and cancel in the sum."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lightning_fl.aggregation.ring.fixed_point import Integers
from lightning_fl.wire.messages import MessageError

KEY_BYTES = 32


class MaskKey:
    """Hold a site's X25519 key pair for one run; the private half lives in this object alone."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def pair_key(self, peer: bytes, *labels: str | int) -> bytes:
        """Derive the key that this site shares with another one for one ring, 32 bytes.

        It is HKDF-SHA256 of the X25519 secret. Both sides must give equal labels.

        Raises:
            MessageError: the peer's public key is none.
        """
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise MessageError(f"A site's mask key is no X25519 public key: {error}.") from error
        info = json.dumps(["lightning_fl mask", *labels]).encode()
        return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)


def digest_of_terms(terms: Mapping[str, Any]) -> str:
    """Digest what a site knows of a ring.

    It goes into the pair keys, so that masks cancel only among sites with equal terms.
    """
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()


def stream(key: bytes, block: int, size: int) -> bytes:
    """Return `size` bytes of ChaCha20's key stream, another one for each block of a ring."""
    nonce = bytes(8) + block.to_bytes(8, "little")  # ChaCha20's counter comes first
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(size))


def block_tag(key: bytes, sender: str, block: int, data: memoryview) -> str:
    """Return what the two sites that share a key alone can make of a block, 64 hex digits.

    It is HMAC-SHA256 under a key of its own.
    """
    tag = hmac.new(hmac.digest(key, b"lightning_fl block", "sha256"), digestmod="sha256")
    tag.update(json.dumps([sender, block]).encode())
    tag.update(data)
    return tag.hexdigest()


def mask_words(key: bytes, block: int, count: int, word_bits: int) -> Integers:
    """Return `count` uniform numbers below 2 ** word_bits, shape (count,)."""
    words: Integers = np.frombuffer(stream(key, block, 8 * count), dtype="<i8")
    return words & np.int64(2**word_bits - 1)


def site_mask(
    site: str, keys: Mapping[str, bytes], block: int, count: int, word_bits: int
) -> Integers:
    """Add the streams of the keys shared with later sites, subtract those shared with earlier ones.

    Added up over all sites of the ring, pairwise masks are 0 modulo 2 ** word_bits. `keys` are by
    the name of the site that each is shared with. A key under the site's own name adds a stream
    that does not cancel: the initiator's mask. Without keys the mask is 0.
    """
    total: Integers = np.zeros(count, dtype=np.int64)
    for peer, key in keys.items():
        words = mask_words(key, block, count, word_bits)
        total = total + words if site <= peer else total - words
    return total & np.int64(2**word_bits - 1)
