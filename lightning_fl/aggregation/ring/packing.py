"""Pack several integers side by side in one word, a word in one real slot."""

import numpy as np

from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.packing_parameters import RingParameters
from lightning_fl.errors import OutOfRangeError

WORST_ERROR = 0.4
"""A decrypted number further than this from a whole one is refused; noise never is."""


def pack(integers: Integers, parameters: RingParameters) -> Integers:
    """Put `lanes` integers into each word, each made non-negative so that lanes never borrow.

    The integers are at most `parameters.limit` in size. The words have the shape
    (ciphertexts * degree,), each at least 0 and below 2 ** word_bits.
    """
    per_ciphertext = parameters.values_per_ciphertext
    ciphertexts = -(-len(integers) // per_ciphertext)
    padded = np.zeros(ciphertexts * per_ciphertext, dtype=np.int64)
    padded[: len(integers)] = integers
    lanes = (padded + parameters.limit).reshape(parameters.lanes, -1)
    words: Integers = lanes[0].copy()
    for index in range(1, parameters.lanes):
        words |= lanes[index] << (index * parameters.lane_bits)
    return words


def unpack(words: Integers, parameters: RingParameters, count: int) -> Integers:
    """Take the sums of `count` integers out of the sum of all sites' words.

    Raises:
        OutOfRangeError: a lane holds what no sum of the sites' integers can be.
    """
    mask = 2**parameters.lane_bits - 1
    lanes = [words >> (i * parameters.lane_bits) & mask for i in range(parameters.lanes)]
    sums = np.concatenate(lanes)[:count]
    largest = 2 * parameters.limit * parameters.sites
    if bool((sums > largest).any()):
        raise OutOfRangeError(
            f"A decrypted integer is outside what a sum over {parameters.sites} sites can be, "
            f"{largest} at most: some site did not send what it should have."
        )
    centred: Integers = sums - parameters.limit * parameters.sites
    return centred


def to_reals(words: Integers, mask: Integers | int, parameters: RingParameters) -> Floats:
    """Return what is encrypted: (word + mask) mod 2 ** word_bits, centred on zero."""
    modulus = 2**parameters.word_bits
    reals: Floats = (((words + mask) & (modulus - 1)) - modulus // 2).astype(np.float64)
    return reals


def from_reals(reals: Floats, mask: Integers | int, parameters: RingParameters) -> Integers:
    """Round and check decrypted sums and take `mask` off, which leaves sums of words.

    Raises:
        OutOfRangeError: the numbers are not what a sum of the sites' words can decrypt to.
    """
    rounded = np.rint(reals)
    with np.errstate(invalid="ignore"):  # what is not finite is refused below
        error = np.abs(reals - rounded)
    noisy = float(error.max()) > WORST_ERROR or float(np.sqrt(np.mean(error**2))) > (
        3 * parameters.noise
    )
    half = 2 ** (parameters.word_bits - 1)
    largest = float(np.abs(rounded).max())
    if not largest <= parameters.sites * half or noisy:
        raise OutOfRangeError(
            f"What was decrypted are no whole numbers up to {parameters.sites * half:.3g}, as a "
            f"sum over {parameters.sites} sites gives: some site did not encrypt for this ring as "
            "it should have."
        )
    total = rounded.astype(np.int64) + parameters.sites * half
    words: Integers = (total - mask) & (2**parameters.word_bits - 1)
    return words
