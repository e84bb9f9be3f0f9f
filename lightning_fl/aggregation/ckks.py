"""CKKS through SEAL: one ring's context, keys, encryption and sums. Nothing else uses tenseal.

SEAL takes its randomness from the operating system. It clears the memory of secret keys when they
are destroyed.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from tenseal import sealapi

from lightning_fl.aggregation.fixed_point import Floats
from lightning_fl.aggregation.ring_parameters import PRIME_BITS, SPECIAL_BITS, RingParameters
from lightning_fl.messages import MessageError

Ciphertext = Any
"""A sealapi.Ciphertext; tenseal has no type hints."""
HEADER = bytes.fromhex("5ea110")
"""How everything that SEAL saves begins: its magic number and the header's length."""


class _Buffer:
    """sealapi saves to paths only: a file that lives in memory where the system has such."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd"):  # noqa: PTH110
            self._descriptor = os.memfd_create("ring", os.MFD_CLOEXEC)
            self.path = f"/proc/self/fd/{self._descriptor}"
        else:
            self._descriptor, self.path = tempfile.mkstemp()

    def save(self, item: Any) -> bytes:
        os.ftruncate(self._descriptor, 0)
        item.save(self.path)
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def load(self, item: Any, context: Any, data: bytes | memoryview) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        try:
            item.load(context, self.path)
        except Exception as error:
            raise MessageError(f"SEAL does not accept what arrived ({error}).") from error

    def close(self) -> None:
        os.close(self._descriptor)
        if not self.path.startswith("/proc"):
            os.unlink(self.path)  # noqa: PTH108

    def __del__(self) -> None:
        self.close()


class RingContext:
    """What every site of a ring holds: SEAL's parameters and the initiator's public key.

    Args:
        parameters: of the ring.
        public_key: as the initiator sent it; None makes a context without one, for `RingKey`.

    Raises:
        MessageError: the public key does not belong to these parameters.
    """

    def __init__(self, parameters: RingParameters, public_key: bytes | None) -> None:
        self.parameters = parameters
        self._buffer = _Buffer()
        self._seal, self._settings = _seal_context(parameters.degree)
        self._encoder = sealapi.CKKSEncoder(self._seal)
        self._evaluator = sealapi.Evaluator(self._seal)
        self._level = self._seal.first_parms_id()
        self.ciphertext_bytes = 16 * parameters.degree + 1024
        """Nothing longer is taken for a ciphertext."""
        if public_key is not None:
            self._use(public_key)

    def _use(self, public_key: bytes) -> None:
        if len(public_key) > 32 * self.parameters.degree + 1024 or public_key[:3] != HEADER:
            raise MessageError(f"{len(public_key)} bytes are no public key of this ring.")
        key = sealapi.PublicKey()
        self._buffer.load(key, self._seal, public_key)
        self._encryptor = sealapi.Encryptor(self._seal, key)
        self.fingerprint = fingerprint(self.parameters, public_key)

    def encrypt(self, reals: Floats) -> list[Ciphertext]:
        """Encrypt with the public key.

        Args:
            reals: whole numbers, shape (ciphertexts * degree,).
        """
        plain, found = sealapi.Plaintext(), []
        for row in self._rows(reals):
            self._encoder.encode(row, self._level, 2.0**self.parameters.scale_bits, plain)
            ciphertext = sealapi.Ciphertext(self._seal)
            self._encryptor.encrypt(plain, ciphertext)
            found.append(ciphertext)
        return found

    def add(self, ciphertexts: Sequence[Ciphertext], others: Sequence[Ciphertext]) -> None:
        """Add `others` to `ciphertexts`, in place."""
        for ciphertext, other in zip(ciphertexts, others, strict=True):
            self._evaluator.add_inplace(ciphertext, other)

    def to_bytes(self, ciphertexts: Sequence[Ciphertext]) -> list[bytes]:
        """As they travel."""
        return [self._buffer.save(ciphertext) for ciphertext in ciphertexts]

    def from_bytes(self, data: Sequence[bytes | memoryview]) -> list[Ciphertext]:
        """Ciphertexts from bytes that another site sent.

        Raises:
            MessageError: they are no ciphertexts of this ring's form. (Nobody can tell whether
                they were encrypted under its key; the initiator finds out when it decrypts.)
        """
        return [self._load(piece) for piece in data]

    def _load(self, data: bytes | memoryview) -> Ciphertext:
        if len(data) > self.ciphertext_bytes or bytes(data[:3]) != HEADER:
            raise MessageError(f"{len(data)} bytes are no ciphertext of this ring.")
        ciphertext = sealapi.Ciphertext(self._seal)
        self._buffer.load(ciphertext, self._seal, data)
        form = (
            ciphertext.size(),
            ciphertext.parms_id(),
            ciphertext.is_ntt_form(),
            ciphertext.scale,
            ciphertext.is_transparent(),
        )
        expected = (2, self._level, True, 2.0**self.parameters.scale_bits, False)
        if form != expected:
            raise MessageError(
                f"A ciphertext has (size, level, NTT form, scale, in the clear) {form} instead of "
                f"{expected}."
            )
        return ciphertext

    def _rows(self, reals: Floats) -> list[list[complex]]:
        slots = reals.reshape(-1, self.parameters.degree).view(np.complex128)
        rows: list[list[complex]] = slots.tolist()  # SEAL's binding reads lists faster than arrays
        return rows


class RingKey:
    """What the initiator alone holds: a fresh secret key, for one ring.

    Args:
        parameters: of the ring.
    """

    def __init__(self, parameters: RingParameters) -> None:
        self.context = RingContext(parameters, None)
        seal = self.context._seal
        generator = sealapi.KeyGenerator(seal)
        secret, public = generator.secret_key(), sealapi.PublicKey()
        generator.create_public_key(public)
        self._own = sealapi.Encryptor(seal, secret)
        self._decryptor = sealapi.Decryptor(seal, secret)
        self.public_key: bytes = self.context._buffer.save(public)
        self.context._use(self.public_key)

    def encrypt(self, reals: Floats) -> list[bytes]:
        """Encrypt with the secret key: cheaper, and half the bytes, for one half is a seed."""
        context, plain, found = self.context, sealapi.Plaintext(), []
        for row in context._rows(reals):
            context._encoder.encode(row, context._level, 2.0**context.parameters.scale_bits, plain)
            found.append(context._buffer.save(self._own.encrypt_symmetric(plain)))
        return found

    def decrypt(self, ciphertexts: Sequence[Ciphertext]) -> Floats:
        """The numbers inside, with noise, shape (ciphertexts * degree,)."""
        plain, found = sealapi.Plaintext(), []
        for ciphertext in ciphertexts:
            self._decryptor.decrypt(ciphertext, plain)
            found.append(np.array(self.context._encoder.decode_complex(plain)).view(np.float64))
        return np.concatenate(found)


def fingerprint(parameters: RingParameters, public_key: bytes) -> str:
    """Digest of a ring's parameters and public key, 32 hexadecimal digits."""
    return hashlib.sha256(repr(parameters).encode() + public_key).hexdigest()[:32]


def max_modulus_bits(degree: int) -> int:
    """SEAL's own table: the largest coefficient modulus for 128-bit security."""
    bits: int = sealapi.CoeffModulus.MaxBitCount(degree, sealapi.SEC_LEVEL_TYPE.TC128)
    return bits


@functools.lru_cache
def _seal_context(degree: int) -> tuple[Any, Any]:
    settings = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    settings.set_poly_modulus_degree(degree)
    primes = sealapi.CoeffModulus.Create(degree, [PRIME_BITS, SPECIAL_BITS])
    settings.set_coeff_modulus(primes)
    context = sealapi.SEALContext(settings, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ValueError(f"SEAL refuses the parameters: {context.parameters_error_message()}.")
    return context, settings
