"""Encrypt and add under CKKS, through SEAL, for one ring. Nothing else uses tenseal.

SEAL takes its randomness from the operating system. It clears the memory of secret keys when they
are destroyed.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tenseal import sealapi

from lightning_fl.aggregation.ring.fixed_point import Floats
from lightning_fl.aggregation.ring.packing_parameters import RingParameters
from lightning_fl.aggregation.ring.seal_forms import HEADER, SEED, Form
from lightning_fl.wire.messages import MessageError

Ciphertext = Any
"""A sealapi.Ciphertext; tenseal has no type hints."""


class _Buffer:
    """Save and load through a file, as sealapi must; it lives in memory where the system can."""

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

    def load(self, item: Any, context: Any, data: bytes) -> None:
        os.ftruncate(self._descriptor, os.pwrite(self._descriptor, data, 0))
        try:
            item.load(context, self.path)
        except Exception as error:
            raise MessageError(f"SEAL does not accept what arrived ({error}).") from error

    def __del__(self) -> None:
        os.close(self._descriptor)
        if not self.path.startswith("/proc"):
            os.unlink(self.path)  # noqa: PTH108


class RingContext:
    """Hold what every site of a ring has: SEAL's parameters and the initiator's public key.

    Args:
        parameters: of the ring.
        public_key: as the initiator sent it; None makes a context without one, for `RingKey`.

    Raises:
        MessageError: the public key does not belong to these parameters.

    Attributes:
        fingerprint: digest of parameters and public key.
    """

    def __init__(self, parameters: RingParameters, public_key: bytes | None) -> None:
        self.parameters = parameters
        self._buffer = _Buffer()
        self._seal = _seal_context(parameters.degree, parameters.primes)
        self.forms = _forms(parameters.degree, parameters.primes, parameters.scale_bits)
        self._encoder = sealapi.CKKSEncoder(self._seal)
        self._evaluator = sealapi.Evaluator(self._seal)
        self._level = self._seal.first_parms_id()
        self._scale = 2.0**parameters.scale_bits
        if public_key is not None:
            self._use(public_key)

    def _use(self, public_key: bytes) -> None:
        key = sealapi.PublicKey()
        self._buffer.load(key, self._seal, self.forms.public_key.frame(public_key))
        self._encryptor = sealapi.Encryptor(self._seal, key)
        digest = hashlib.sha256(repr(self.parameters).encode() + public_key)
        self.fingerprint = digest.hexdigest()[:32]

    def encrypt(self, reals: Floats) -> list[Ciphertext]:
        """Encrypt with the public key.

        Args:
            reals: whole numbers, shape (ciphertexts * degree,).
        """
        ciphertexts = []
        for plain in self._encoded(reals):
            ciphertext = sealapi.Ciphertext(self._seal)
            self._encryptor.encrypt(plain, ciphertext)
            ciphertexts.append(ciphertext)
        return ciphertexts

    def add(self, ciphertexts: Sequence[Ciphertext], others: Sequence[Ciphertext]) -> None:
        """Add `others` to `ciphertexts`, in place."""
        for ciphertext, other in zip(ciphertexts, others, strict=True):
            self._evaluator.add_inplace(ciphertext, other)

    def to_bytes(self, ciphertexts: Sequence[Ciphertext]) -> list[bytes]:
        """Return the numbers in each ciphertext, as they travel."""
        form = self.forms.ciphertext
        return [form.numbers(self._buffer.save(ciphertext)) for ciphertext in ciphertexts]

    def from_bytes(
        self, data: Sequence[bytes | memoryview], *, seeded: bool = False
    ) -> list[Ciphertext]:
        """Make ciphertexts of numbers that another site sent.

        Args:
            data: of each ciphertext.
            seeded: whether they come fresh from the initiator.

        Raises:
            MessageError: they are no ciphertexts of this ring's form. (Nobody can tell whether
                they were encrypted under its key; the initiator finds out when it decrypts.)
        """
        form = self.forms.seeded if seeded else self.forms.ciphertext
        return [self._load(form.frame(numbers)) for numbers in data]

    def _load(self, framed: bytes) -> Ciphertext:
        ciphertext = sealapi.Ciphertext(self._seal)
        self._buffer.load(ciphertext, self._seal, framed)
        if ciphertext.is_transparent():
            raise MessageError("A ciphertext arrived whose content anybody could read.")
        return ciphertext

    def _encoded(self, reals: Floats) -> Iterator[Any]:
        """Encode one row of slots after the other, into one plaintext that is used again."""
        plain = sealapi.Plaintext()
        slots = reals.reshape(-1, self.parameters.degree).view(np.complex128)
        for row in slots.tolist():  # SEAL's binding reads lists faster than arrays
            self._encoder.encode(row, self._level, self._scale, plain)
            yield plain


class RingKey:
    """Hold what the initiator alone has: a fresh secret key, for one ring."""

    def __init__(self, parameters: RingParameters) -> None:
        self.context = RingContext(parameters, None)
        seal = self.context._seal
        generator = sealapi.KeyGenerator(seal)
        secret, public = generator.secret_key(), sealapi.PublicKey()
        generator.create_public_key(public)
        self._encryptor = sealapi.Encryptor(seal, secret)
        self._decryptor = sealapi.Decryptor(seal, secret)
        saved = self.context._buffer.save(public)
        self.public_key: bytes = self.context.forms.public_key.numbers(saved)
        self.context._use(self.public_key)

    def encrypt(self, reals: Floats) -> list[bytes]:
        """Encrypt with the secret key: cheaper, and half the bytes, for one half is a seed."""
        context = self.context
        fresh = (self._encryptor.encrypt_symmetric(plain) for plain in context._encoded(reals))
        return [context.forms.seeded.numbers(context._buffer.save(item)) for item in fresh]

    def decrypt(self, ciphertexts: Sequence[Ciphertext]) -> Floats:
        """Return the numbers inside, with noise, shape (ciphertexts * degree,)."""
        plain, reals = sealapi.Plaintext(), []
        for ciphertext in ciphertexts:
            self._decryptor.decrypt(ciphertext, plain)
            reals.append(np.array(self.context._encoder.decode_complex(plain)).view(np.float64))
        return np.concatenate(reals)


class Forms(NamedTuple):
    """Hold how the objects of a ring are written; see seal_forms.py."""

    ciphertext: Form
    seeded: Form
    public_key: Form


@functools.lru_cache
def _forms(degree: int, primes: tuple[int, ...], scale_bits: int) -> Forms:
    """Learn the forms from objects of a key that is thrown away."""
    seal = _seal_context(degree, primes)
    buffer, plain, ciphertext = _Buffer(), sealapi.Plaintext(), sealapi.Ciphertext(seal)
    generator, public = sealapi.KeyGenerator(seal), sealapi.PublicKey()
    generator.create_public_key(public)
    sealapi.CKKSEncoder(seal).encode([0j], seal.first_parms_id(), 2.0**scale_bits, plain)
    sealapi.Encryptor(seal, public).encrypt(plain, ciphertext)
    fresh = sealapi.Encryptor(seal, generator.secret_key()).encrypt_symmetric(plain)
    seed_header = HEADER + 1  # and the kind of generator
    return Forms(
        ciphertext=Form.of(buffer.save(ciphertext), (16 * degree,)),
        seeded=Form.of(buffer.save(fresh), (8 * degree, SEED), (seed_header,)),
        public_key=Form.of(buffer.save(public), (16 * degree * len(primes),)),
    )


@functools.lru_cache
def _seal_context(degree: int, primes: tuple[int, ...]) -> Any:
    settings = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    settings.set_poly_modulus_degree(degree)
    settings.set_coeff_modulus(sealapi.CoeffModulus.Create(degree, list(primes)))
    context = sealapi.SEALContext(settings, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ValueError(f"SEAL refuses the parameters: {context.parameters_error_message()}.")
    return context
