"""Give sites long-lived identities, against a coordinator that hands out mask keys of its own.

A site that has an identity signs its mask key of the run with it. The others know the fingerprint
of the identity beforehand, from the run's configuration. The command
`python -m lightning_fl.hospital.make_identity FILE` makes an identity and prints its fingerprint.
The file stays with the hospital, like the key of a server.
"""

import hashlib
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lightning_fl.errors import ConfigError
from lightning_fl.wire.messages import MessageError

SUFFIX = ".identity.pem"


class Identity:
    """Hold a site's Ed25519 key.

    Args:
        file: PEM file that `make` wrote.

    Raises:
        ConfigError: the file is not there or no such key.
    """

    def __init__(self, file: Path) -> None:
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"The identity {file} cannot be read ({error}). Make one with `python -m "
                f"lightning_fl.hospital.make_identity {file}`."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"The identity {file} holds no Ed25519 key.")
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()

    def sign(self, run: str, site: str, mask_key: bytes) -> bytes:
        """Sign a site's mask key for one run."""
        return self._key.sign(_statement(run, site, mask_key))


def make(file: Path) -> str:
    """Make an identity that only its owner can read, and return its fingerprint.

    Raises:
        FileExistsError: there is one; it is never replaced.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(pem)
    return fingerprint(key.public_key().public_bytes_raw())


def fingerprint(public: bytes) -> str:
    """Digest a public key by SHA-256, in hexadecimal."""
    return hashlib.sha256(public).hexdigest()


def verify(
    pin: str, public: bytes, signature: bytes, *, run: str, site: str, mask_key: bytes
) -> None:
    """Check that a mask key comes from the pinned identity of a site.

    Raises:
        MessageError: the identity is another one, or the signature does not fit.
    """
    if not pin:
        raise MessageError(
            f"Site {site!r} has no pinned identity; where some sites are pinned, all must be."
        )
    if fingerprint(public) != pin:
        raise MessageError(
            f"Site {site!r} is pinned to identity {pin[:16]}..., but its mask key comes with "
            f"{fingerprint(public)[:16]}...; someone else may have made it."
        )
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(
            signature, _statement(run, site, mask_key)
        )
    except (InvalidSignature, ValueError) as error:
        raise MessageError(
            f"The mask key said to be from site {site!r} does not carry its signature for run "
            f"{run!r}; someone else may have made it."
        ) from error


def _statement(run: str, site: str, mask_key: bytes) -> bytes:
    return json.dumps(["lightning_fl mask key", run, site, mask_key.hex()]).encode()
