"""Choose what makes a ring's sums exact: lanes, bits, guard and scale, from the number of sites.

One CKKS ciphertext of ring degree N holds N/2 complex slots, that is N reals. Each real carries
one *word*: `lanes` integers side by side. A sum over the sites comes back with noise; rounding
removes it as long as the noise stays below half a unit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_fl.errors import ConfigError

COMPACT_BITS = 18
"""Settings of `bits` up to this one mean the compact grid, above it the wide one."""
MIN_BITS, MAX_BITS = 8, 30
WIDE_RANGE_BITS = 3
"""The wide grid must reach at least 2 ** 3 = 8 in both directions."""
AMPLE_RANGE_BITS = 9
"""A reach of 2 ** 9 = 512 is enough to prefer faster encryption to more of it."""
FAILURE = 2.0**-40
"""Bound on the probability that any value of a ring is rounded wrongly."""
MAX_VALUES = 2**30
"""Values in a ring that the bound holds for."""
SEAL_128 = {2048: 54, 4096: 109, 8192: 218}
"""Largest coefficient modulus, in bits, for 128-bit security by ring degree (SEAL's table)."""
PRIME_BITS = 60
"""SEAL's largest prime; with one of them the modulus holds the whole sum."""
SPECIAL_BITS = 49
"""A second prime carries no data: SEAL divides fresh noise by it, for two thirds more time."""
ERROR_SD = 3.2
"""Standard deviation of the error polynomials that SEAL draws."""
LIMB_BITS, LIMBS = 7, 6
"""A count that is summed in the ring travels as 6 integers of 7 bits: it may reach 2 ** 42."""


def tail(deviations: float, *, special: bool) -> float:
    """Return the probability that a value's noise is so many standard deviations away from 0.

    The noise in a slot is a fresh random polynomial times one that is fixed for the whole ring
    (the secret key; without the special prime also the error of the public key), each at that
    slot's root of unity. Given the fixed one it is Gaussian, but over keys and slots its variance
    is spread like an exponential variable, which makes the noise Laplace; or like the mean of two,
    which makes it the sum of two Laplace variables.
    """
    if special:
        return math.exp(-(2**0.5) * deviations)
    return (1 + deviations) * math.exp(-2 * deviations)


@dataclass(frozen=True)
class RingParameters:
    """Say how integers of one ring are packed and encrypted.

    Attributes:
        sites: how many sites add up.
        value_bits: bits of one site's integer, with its sign; it is at most `limit` in size.
        lanes: integers in a word.
        degree: ring degree N.
        special: whether there is a second prime, which makes the noise of encryption 16 times
            smaller.
    """

    sites: int
    value_bits: int
    lanes: int
    degree: int
    special: bool = True

    @property
    def primes(self) -> tuple[int, ...]:
        """Bits of the primes of the coefficient modulus."""
        return (PRIME_BITS, SPECIAL_BITS) if self.special else (PRIME_BITS,)

    @property
    def limit(self) -> int:
        """Largest absolute value of one site's integer."""
        return (1 << self.value_bits - 1) - 1

    @property
    def guard_bits(self) -> int:
        """Head-room of a sum: ceil(log2(sites))."""
        return (self.sites - 1).bit_length()

    @property
    def lane_bits(self) -> int:
        """Bits of a lane, in which any sum of the sites' integers fits."""
        return self.value_bits + self.guard_bits

    @property
    def word_bits(self) -> int:
        """Bits of a word; masks live modulo 2 ** word_bits."""
        return self.lanes * self.lane_bits

    @property
    def scale_bits(self) -> int:
        """log2 of the CKKS scale: all the room that a sum of masked words leaves.

        A sum is below 2 ** (word_bits + guard_bits - 1) in its real and in its imaginary part, so
        times the scale it stays below 2 ** 58.5, and below half of the 60-bit prime.
        """
        return PRIME_BITS - 1 - self.word_bits - self.guard_bits

    @property
    def noise(self) -> float:
        """Standard deviation of the error of a sum before rounding, in units.

        With a ternary secret s and ternary u, a public-key encryption has the error
        e u + e0 + e1 s, of variance (1 + 4N/3) 3.2^2 a coefficient. Where SEAL divides it by a
        special prime, only the rounding of c0 + c1 s is left, (1 + 2N/3) / 12. Encoding adds
        1/12. A slot's real part adds up N/2 coefficients.
        """
        rounding = (2 + 2 * self.degree / 3) / 12
        errors = (1 + 4 * self.degree / 3) * ERROR_SD**2
        coefficient = rounding if self.special else errors + 1 / 12
        return math.sqrt(self.sites * self.degree / 2 * coefficient) / 2.0**self.scale_bits

    @property
    def margin(self) -> float:
        """Half a unit, in standard deviations of the noise."""
        return 0.5 / self.noise

    @property
    def values_per_ciphertext(self) -> int:
        """Integers in one ciphertext."""
        return self.degree * self.lanes

    @property
    def exact(self) -> bool:
        """Whether `MAX_VALUES` sums come back exactly, but for a probability of `FAILURE`.

        For that the margin must be about 34 with the special prime, and 26 without.
        """
        wrong = MAX_VALUES * tail(self.margin, special=self.special)
        return self.scale_bits > 0 and wrong <= FAILURE


def choose(bits: int, sites: int) -> RingParameters:
    """Choose the parameters for a ring of so many sites.

    Up to 18 bits are the size of an integer on the compact grid, of which at least two share a
    word. From 19 they are binary places of the wide grid, one integer in a word, as large as fits.

    Raises:
        ConfigError: no exact set of parameters exists; names the nearest that does.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigError(f"Expected `bits` to be from {MIN_BITS} to {MAX_BITS}, but got {bits}.")
    parameters = _fit(bits, sites)
    if parameters is None:
        raise ConfigError(
            f"Sums of {sites} sites with `bits: {bits}` could be rounded wrongly with a "
            f"probability above 2^-40. Nearest that fits: {_nearest(bits, sites)}."
        )
    return parameters


def is_compact(bits: int) -> bool:
    """Tell whether a setting of `bits` means the compact grid."""
    return bits <= COMPACT_BITS


def _fit(bits: int, sites: int) -> RingParameters | None:
    for degree, modulus in SEAL_128.items():
        for parameters in _candidates(bits, sites, degree):
            if sum(parameters.primes) <= modulus and parameters.exact:
                return parameters
    return None


def _candidates(bits: int, sites: int, degree: int) -> Iterator[RingParameters]:
    """Yield the best first: few bytes, then fast encryption, then a wide range."""
    if is_compact(bits):
        for lanes in (5, 4, 3, 2):
            for special in (False, True):
                yield RingParameters(sites, bits, lanes, degree, special)
        return
    for special, least in ((False, AMPLE_RANGE_BITS), (True, WIDE_RANGE_BITS)):
        for value_bits in range(52, bits + least, -1):
            yield RingParameters(sites, value_bits, 1, degree, special)


def _nearest(bits: int, sites: int) -> str:
    options = []
    below = range(bits - 1, (MIN_BITS if is_compact(bits) else COMPACT_BITS + 1) - 1, -1)
    fewer_bits = next((b for b in below if _fit(b, sites)), None)
    if fewer_bits is not None:
        options.append(f"`bits: {fewer_bits}` with {sites} sites")
    if is_compact(bits) and _fit(24, sites):
        options.append(f"`bits: 24` with {sites} sites")
    fewer_sites = next((n for n in range(sites - 1, 1, -1) if _fit(bits, n)), None)
    if fewer_sites is not None:
        options.append(f"`bits: {bits}` with {fewer_sites} sites (`sites_per_round`)")
    return ", ".join(options) or "none"
