"""Read what parties of a ring can make of its bytes, with the key or without it."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.ckks import RingKey
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.masks import mask_words
from lightning_fl.aggregation.ring.packing_parameters import RingParameters
from lightning_fl.audit.views.recording import Recording


def opened(recording: Recording, hidden: Collection[str], helpers: Collection[str]) -> Tensor:
    """Work out the sum of some sites' updates, as the initiator can with the sites that help it.

    It decrypts every partial sum. The difference of two that follow each other is what one site
    added. The helpers take off the masks that they share with the site. Other masks stay on, and
    make noise of the result, shape (length,), unless they cancel.

    Args:
        recording: of a ring.
        hidden: the sites whose sum is wanted.
        helpers: the sites that collude, the initiator among them.

    Raises:
        ValueError: the initiator does not help, and without it nobody has the key.
    """
    first = recording.order[0]
    key = recording.memberships[first].key
    if key is None or first not in helpers:
        raise ValueError(f"Only {first!r} has the key of this ring, but {sorted(helpers)} help.")
    plan, parts = recording.memberships[first].ring.plan, []
    for block in range(plan.blocks):
        added = _added(recording, key, block)
        words = sum(
            (_unmasked(recording, site, added[site], block, helpers) for site in hidden),
            start=np.zeros_like(added[first]),
        )
        start, stop = plan.span(block)
        end = min(stop, plan.length)
        integers = _integers(words, plan.parameters, len(hidden))[: max(end - start, 0)]
        parts.append(plan.grid.to_values(integers, start))
    return torch.from_numpy(np.concatenate(parts)).float()


def _added(recording: Recording, key: RingKey, block: int) -> dict[str, Integers]:
    """Return, by site, the words that it added, with the masks that were on them."""
    half = 2 ** (key.context.parameters.word_bits - 1)
    added: dict[str, Integers] = {}
    running: Floats | None = None
    for site in recording.order:
        total = np.rint(_decrypted(key, recording, site, recording.ciphertexts(site)[block]))
        added[site] = (total if running is None else total - running).astype(np.int64) + half
        running = total
    return added


def _unmasked(
    recording: Recording, site: str, words: Integers, block: int, helpers: Collection[str]
) -> Integers:
    """Take off a site's words the masks that the helpers know.

    A pair's mask is known to both; the initiator's own is under its own name.
    """
    bits = recording.memberships[site].ring.plan.parameters.word_bits
    for helper in helpers:
        key = recording.memberships[helper].masks.get(site)
        if key is not None:
            mask = mask_words(key, block, len(words), bits)
            words = words - mask if site <= helper else words + mask
    return words


def _integers(words: Integers, parameters: RingParameters, sites: int) -> Integers:
    """Return sums of integers out of sums of words, as `unpack` without its checks.

    A lane is counted around zero, so that noise is too.
    """
    bits = parameters.lane_bits
    lanes = [words >> (i * bits) for i in range(parameters.lanes)]
    half, ones = 1 << (bits - 1), (1 << bits) - 1
    sums = np.concatenate(lanes) - sites * parameters.limit
    centred: Integers = ((sums + half) & ones) - half
    return centred


def ciphertext_difference(recording: Recording, site: str) -> Tensor:
    """Make the coordinator's guess: the difference of the ciphertexts before and after a site.

    That is, exactly, the ciphertext of what the site added. Its first half is the message plus a
    part that hides it, so its numbers are taken for the message's: centred, one for each value.

    Args:
        recording: of a ring.
        site: not the initiator, nor the site after it, whose predecessor sends half a ciphertext.

    Returns:
        Shape (length,), between -0.5 and 0.5.
    """
    plan = recording.memberships[site].ring.plan
    modulus = data_modulus(plan.parameters)
    before, after = (
        _first_halves(recording, name).astype(object) for name in (_previous(recording, site), site)
    )
    centred = np.array((after - before) % modulus / modulus, dtype=np.float64) - 0.5
    return torch.from_numpy(np.tile(centred, plan.parameters.lanes)[: plan.length]).float()


def data_modulus(parameters: RingParameters) -> int:
    """Return the prime that ciphertexts are taken modulo; the largest that SEAL can take.

    It is 1 modulo 2N. That 2 ^ (q - 1) is 1 modulo q shows a prime here, since it is the
    candidate that SEAL itself tests and takes.
    """
    factor = 2 * parameters.degree
    candidates = range(2 ** parameters.primes[0] - factor + 1, 0, -factor)
    return next(q for q in candidates if pow(2, q - 1, q) == 1)


def _first_halves(recording: Recording, site: str) -> Integers:
    """Return the first polynomial of each ciphertext that a site passed on, shape (N * count,)."""
    # Of the initiator's fresh ciphertexts the rest is a seed.
    half = 8 * recording.memberships[site].ring.plan.parameters.degree
    blocks = recording.ciphertexts(site)
    pieces = [np.frombuffer(piece[:half], dtype="<u8") for block in blocks for piece in block]
    numbers: Integers = np.concatenate(pieces)
    return numbers


def decrypted_with_another_key(recording: Recording, site: str) -> Tensor:
    """Make a neighbour's guess: what the site passed to it, decrypted with a key of its own.

    It has shape (length,), in steps of the grid.
    """
    stranger = RingKey(recording.memberships[site].ring.plan.parameters)
    return _read_by(stranger, recording, site)


def difference_with_another_key(recording: Recording, site: str) -> Tensor:
    """Make two neighbours' guess: what the site added, decrypted with a key of their own.

    It has shape (length,), in steps of the grid. The site is not the initiator, whose part begins
    the sum.
    """
    stranger = RingKey(recording.memberships[site].ring.plan.parameters)
    before = _read_by(stranger, recording, _previous(recording, site))
    return _read_by(stranger, recording, site) - before


def _read_by(key: RingKey, recording: Recording, site: str) -> Tensor:
    plan = recording.memberships[site].ring.plan
    pieces = [piece for block in recording.ciphertexts(site) for piece in block]
    reals = _decrypted(key, recording, site, pieces)
    values = np.tile(reals, plan.parameters.lanes)[: plan.length]
    return torch.from_numpy(values * plan.grid.steps(0, plan.length)).float()


def _decrypted(key: RingKey, recording: Recording, site: str, pieces: list[bytes]) -> Floats:
    return key.decrypt(key.context.from_bytes(pieces, seeded=site == recording.order[0]))


def _previous(recording: Recording, site: str) -> str:
    return recording.order[recording.order.index(site) - 1]
