"""What parties of a ring can make of its bytes: opened with the key, or guessed without it."""

from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.ckks import RingKey
from lightning_fl.aggregation.ring.fixed_point import Floats, Integers
from lightning_fl.aggregation.ring.masks import mask_words
from lightning_fl.aggregation.ring.packing_parameters import RingParameters
from lightning_fl.audit.views.recording import Recording


def opened(recording: Recording, hidden: Collection[str], helpers: Collection[str]) -> Tensor:
    """The sum of some sites' updates, as the initiator works it out with the sites that help it.

    It decrypts every partial sum, and the difference of two that follow each other is what one
    site added. From that the masks are taken off that the helpers share with the site. What other
    masks there are stay on, and make noise of the result unless they cancel.

    Args:
        recording: of a ring.
        hidden: the sites whose sum is wanted.
        helpers: the sites that collude, the initiator among them.

    Returns:
        Shape (length,).

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
    """By site, the words that it added, with the masks that were on them."""
    half = 2 ** (key.context.parameters.word_bits - 1)
    found: dict[str, Integers] = {}
    running: Floats | None = None
    for place, site in enumerate(recording.order):
        data = recording.ciphertexts(site)[block]
        pieces = list(_pieces(data, _sent_bytes(recording, place)))
        total = np.rint(key.decrypt(key.context.from_bytes(pieces, seeded=place == 0)))
        found[site] = (total if running is None else total - running).astype(np.int64) + half
        running = total
    return found


def _unmasked(
    recording: Recording, site: str, words: Integers, block: int, helpers: Collection[str]
) -> Integers:
    """A site's words without the masks that the helpers know.

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
    """Sums of integers out of sums of words, as `unpack` without its checks.

    A lane is counted around zero, so that noise is too.
    """
    bits = parameters.lane_bits
    lanes = [words >> (i * bits) for i in range(parameters.lanes)]
    half, ones = 1 << (bits - 1), (1 << bits) - 1
    found = np.concatenate(lanes) - sites * parameters.limit
    centred: Integers = ((found + half) & ones) - half
    return centred


def ciphertext_difference(recording: Recording, site: str) -> Tensor:
    """The coordinator's guess: the difference of the ciphertexts before and after a site.

    That is, exactly, the ciphertext of what the site added. Its first half is the message plus a
    part that hides it, so its numbers are taken for the message's: centred, one for each value.

    Args:
        recording: of a ring.
        site: not the initiator, nor the site after it, whose predecessor sends half a ciphertext.

    Returns:
        Shape (length,), between -0.5 and 0.5.
    """
    place = recording.order.index(site)
    plan = recording.memberships[site].ring.plan
    before = _first_halves(recording, place - 1)
    after = _first_halves(recording, place)
    modulus = data_modulus(plan.parameters)
    difference = (after.astype(object) - before.astype(object)) % modulus
    centred = np.array(difference / modulus, dtype=np.float64) - 0.5
    return torch.from_numpy(np.tile(centred, plan.parameters.lanes)[: plan.length]).float()


def data_modulus(parameters: RingParameters) -> int:
    """The prime that ciphertexts are taken modulo; the largest that SEAL can take.

    It is 1 modulo 2N. That 2 ^ (q - 1) is 1 modulo q shows a prime here, since it is the
    candidate that SEAL itself tests and takes.
    """
    factor = 2 * parameters.degree
    candidates = range(2 ** parameters.primes[0] - factor + 1, 0, -factor)
    return next(q for q in candidates if pow(2, q - 1, q) == 1)


def _first_halves(recording: Recording, place: int) -> Integers:
    """The first polynomial of each ciphertext that a site passed on, shape (N * ciphertexts,)."""
    parameters = recording.memberships[recording.order[place]].ring.plan.parameters
    size = _sent_bytes(recording, place)
    half = 8 * parameters.degree  # of a fresh ciphertext of the initiator the rest is a seed
    pieces = [
        np.frombuffer(piece[:half], dtype="<u8")
        for data in recording.ciphertexts(recording.order[place])
        for piece in _pieces(data, size)
    ]
    found: Integers = np.concatenate(pieces)
    return found


def decrypted_with_another_key(recording: Recording, site: str) -> Tensor:
    """A neighbour's guess: what the site passed to it, decrypted with a key of its own.

    Returns:
        Shape (length,), in steps of the grid.
    """
    stranger = RingKey(recording.memberships[site].ring.plan.parameters)
    return _read_by(stranger, recording, recording.order.index(site))


def difference_with_another_key(recording: Recording, site: str) -> Tensor:
    """Two neighbours' guess: what the site added, decrypted with a key of their own.

    Args:
        recording: of a ring.
        site: not the initiator, whose own part begins the sum.

    Returns:
        Shape (length,), in steps of the grid.
    """
    stranger = RingKey(recording.memberships[site].ring.plan.parameters)
    place = recording.order.index(site)
    return _read_by(stranger, recording, place) - _read_by(stranger, recording, place - 1)


def _read_by(key: RingKey, recording: Recording, place: int) -> Tensor:
    site = recording.order[place]
    plan = recording.memberships[site].ring.plan
    size = _sent_bytes(recording, place)
    pieces = [piece for data in recording.ciphertexts(site) for piece in _pieces(data, size)]
    reals = key.decrypt(key.context.from_bytes(pieces, seeded=place == 0))
    values = np.tile(reals, plan.parameters.lanes)[: plan.length]
    return torch.from_numpy(values * plan.grid.steps(0, plan.length)).float()


def _sent_bytes(recording: Recording, place: int) -> int:
    """Size of a ciphertext as the site at a place passes it on: what the next one expects."""
    forms = recording.memberships[recording.order[place]].context.forms
    return forms.seeded.size if place == 0 else forms.ciphertext.size


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
