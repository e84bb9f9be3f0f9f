"""Give sites long-lived identities, against a coordinator that speaks in their names.

A site that has an identity signs what others have to rely on: its mask key and the ring that it is
for, the mean that it has opened, the weights that it has accepted. The others know the fingerprint
of the identity beforehand, from the run's configuration. The command
`python -m lightning_fl.hospital.make_identity FILE` makes an identity and prints its fingerprint.
The file stays with the hospital, like the key of a server.
"""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lightning_fl.errors import ConfigError
from lightning_fl.wire.messages import MessageError

SUFFIX = ".identity.pem"
Statement = Sequence[Any]
"""What a site signs: a word that says what it is, then what it is about; as JSON."""


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

    def sign(self, statement: Statement) -> dict[str, str]:
        """Return the signature of a statement, in base64."""
        signature = self._key.sign(_bytes(statement))
        return {"signature": base64.b64encode(signature).decode()}


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
    """Return what others pin: the public key, in hexadecimal."""
    return public.hex()


def verify(pin: str, site: str, statement: Statement, signed: Any) -> None:
    """Check that a statement was signed by the pinned identity of a site.

    Args:
        pin: fingerprint of the identity; "" for none.
        site: name of the site.
        statement: what the site should have signed.
        signed: what `Identity.sign` returned, as it arrived.

    Raises:
        MessageError: there is no pin, or the signature does not fit.
    """
    if not pin:
        raise MessageError(
            f"Site {site!r} has no pinned identity; where some sites are pinned, all must be."
        )
    try:
        signature = base64.b64decode(signed["signature"], validate=True)
    except (TypeError, KeyError, ValueError) as error:
        raise MessageError(f"Site {site!r} has not signed its {statement[0]}.") from error
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(pin))
        key.verify(signature, _bytes(statement))
    except (InvalidSignature, ValueError) as error:
        raise MessageError(
            f"The {statement[0]} said to be from site {site!r} is not signed by the identity "
            f"{pin[:16]}... that it is pinned to; someone else may have made it."
        ) from error


def _bytes(statement: Statement) -> bytes:
    return json.dumps(["lightning_fl", *statement]).encode()
