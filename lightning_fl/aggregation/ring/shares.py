"""Share the key to a ring's sums among its sites, so that no two sums of a round come out."""

import hashlib
import secrets
from collections.abc import Mapping

PRIME = 2**255 - 19
"""Keys and shares are numbers below it."""
SIZE = 32
"""Bytes of a key and of a share."""


def needed_shares(sites: int) -> int:
    """Return how many of the sites but the initiator must give their share.

    All but one, so that a site may be lost. Of two rings of a round, one within the other, both
    would bind one site then, which opens one sum. See docs/secure_aggregation.md.
    """
    return max(sites - 2, 1)


def make_shares(needed: int, count: int) -> tuple[bytes, list[bytes]]:
    """Return a random key and its shares, any `needed` of which give it (Shamir 1979)."""
    polynomial = [secrets.randbelow(PRIME) for _ in range(needed)]
    values = [
        sum(c * pow(x, power, PRIME) for power, c in enumerate(polynomial)) % PRIME
        for x in range(count + 1)
    ]
    key, *shares = (value.to_bytes(SIZE, "big") for value in values)
    return key, shares


def join_shares(shares: Mapping[int, bytes]) -> bytes:
    """Return the key from as many shares as are needed, by their place in the list.

    Fewer, or false ones, give another key.
    """
    key = 0
    for place, share in shares.items():
        factor = int.from_bytes(share, "big")
        for other in shares:
            if other != place:
                factor = factor * (other + 1) * pow(other - place, -1, PRIME) % PRIME
        key += factor
    return (key % PRIME).to_bytes(SIZE, "big")


def digest_of_share(share: bytes) -> str:
    """Return 16 hex digits by which a false share is known; they tell nothing of a true one."""
    return hashlib.sha256(share).hexdigest()[:16]
