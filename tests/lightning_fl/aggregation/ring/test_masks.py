import itertools

import numpy as np
import pytest
from scipy import stats

from lightning_fl.aggregation.ring.masks import KEY_BYTES, MaskKey, mask_words, site_mask, stream
from lightning_fl.wire.messages import MessageError

COUNT = 100
FIXED = bytes(range(KEY_BYTES))
"""A key that is always the same, for tests of a stream's statistics."""


def shared_keys(sites: list[str], *labels: str | int) -> dict[str, dict[str, bytes]]:
    """For each site the key that it shares with each other one, as a ring derives them."""
    own = {site: MaskKey() for site in sites}
    return {
        site: {
            peer: own[site].pair_key(own[peer].public, *labels, *sorted((site, peer)))
            for peer in sites
            if peer != site
        }
        for site in sites
    }


def public_with(byte: int) -> bytes:
    return bytes([byte]) + bytes(KEY_BYTES - 1)


@pytest.mark.parametrize("count", range(2, 17))
@pytest.mark.parametrize("word_bits", [38, 52])
def test_pairwise_masks_cancel_modulo_the_word(count: int, word_bits: int) -> None:
    sites = [f"site {i}" for i in range(count)]
    keys = shared_keys(sites, "run", 1, "ring", "context")
    masks = [site_mask(site, keys[site], 3, COUNT, word_bits) for site in sites]
    assert not np.any(sum(masks) % 2**word_bits)
    assert all(mask.min() >= 0 and mask.max() < 2**word_bits for mask in masks)


@pytest.mark.parametrize("count", range(3, 17))
def test_the_masks_of_all_sites_but_one_do_not_cancel(count: int) -> None:
    sites = [f"site {i}" for i in range(count)]
    keys = shared_keys(sites)
    masks = [site_mask(site, keys[site], 0, COUNT, 38) for site in sites[1:]]
    rest = sum(masks) % 2**38
    assert len(np.unique(rest)) == COUNT
    expected = -site_mask(sites[0], keys[sites[0]], 0, COUNT, 38) % 2**38
    assert np.array_equal(rest, expected)


def test_the_two_ends_of_a_pair_derive_the_same_key() -> None:
    a, b = MaskKey(), MaskKey()
    labels = ("run", 1, "ring", "context", "A", "B")
    key = a.pair_key(b.public, *labels)
    assert key == b.pair_key(a.public, *labels)
    assert len(key) == KEY_BYTES


def test_another_label_in_any_place_gives_another_key() -> None:
    a, b = MaskKey(), MaskKey()
    labels: tuple[str | int, ...] = ("run", 1, "ring", "context", "A", "B")
    changed: tuple[str | int, ...] = ("run2", 2, "ring2", "context2", "A2", "B2")
    others = [(*labels[:i], other, *labels[i + 1 :]) for i, other in enumerate(changed)]
    moved = [("run1", 1, *labels[2:]), ("run", "1", *labels[2:]), ("ru", "n", *labels[1:])]
    keys = {a.pair_key(b.public, *found) for found in [labels, *others, *moved]}
    assert len(keys) == 1 + len(others) + len(moved)


def test_each_pair_of_sites_has_a_key_of_its_own() -> None:
    keys = shared_keys([*"ABCD"], "ring")
    found = {keys[a][b] for a, b in itertools.combinations("ABCD", 2)}
    assert len(found) == 6


def test_another_run_of_the_same_sites_has_other_keys() -> None:
    assert shared_keys(["A", "B"], "ring")["A"] != shared_keys(["A", "B"], "ring")["A"]


def test_a_third_site_with_both_public_keys_derives_another_key() -> None:
    a, b, listener = MaskKey(), MaskKey(), MaskKey()
    key = a.pair_key(b.public, "ring")
    assert key not in (listener.pair_key(a.public, "ring"), listener.pair_key(b.public, "ring"))


def test_streams_of_different_blocks_share_nothing() -> None:
    blocks = [stream(FIXED, block, 4096) for block in (0, 1, 2, 2**32, 2**63)]
    pieces = [block[i : i + 64] for block in blocks for i in range(0, 4096, 64)]
    assert len(set(pieces)) == len(pieces)  # not even a shifted piece comes back


def test_streams_of_different_keys_differ() -> None:
    assert stream(FIXED, 0, 64) != stream(bytes(KEY_BYTES), 0, 64)


def test_a_longer_stream_begins_like_a_shorter_one() -> None:
    assert stream(FIXED, 5, 1000)[:10] == stream(FIXED, 5, 10)


def test_the_stream_is_chacha20_of_the_rfc() -> None:
    """RFC 8439, A.1, test vector 1: key, counter and nonce of zeros."""
    assert stream(bytes(KEY_BYTES), 0, 16).hex() == "76b8e0ada0f13d90405d6ae55386bd28"


@pytest.mark.parametrize("word_bits", [8, 38, 41, 52])
def test_mask_words_are_uniform_below_the_modulus(word_bits: int) -> None:
    words = mask_words(FIXED, 0, 64_000, word_bits)
    assert words.min() >= 0
    assert words.max() < 2**word_bits
    for bits in (words >> (word_bits - 6), words & 63):  # the highest and the lowest six bits
        assert stats.chisquare(np.bincount(bits, minlength=64)).pvalue > 1e-4


def test_the_test_of_uniformity_notices_a_modulus_that_is_none() -> None:
    words = mask_words(FIXED, 0, 64_000, 38) % (2**38 - 2**33)  # folds 1/32 of them back
    assert stats.chisquare(np.bincount(words >> 32, minlength=64)).pvalue < 1e-10


def test_a_site_sees_uniform_numbers_in_what_another_sends() -> None:
    """Whatever is hidden: word + mask is as uniform as the mask."""
    keys = {"B": FIXED, "C": bytes(KEY_BYTES)}
    for word in (0, 2**38 - 1):
        sent = (word + site_mask("A", keys, 0, 64_000, 38)) % 2**38
        assert stats.chisquare(np.bincount(sent >> 32, minlength=64)).pvalue > 1e-4


@pytest.mark.parametrize(
    "public",
    [
        *(public_with(byte) for byte in (0, 1)),
        bytes([0xEC]) + b"\xff" * 30 + b"\x7f",  # p - 1, of order 2
        bytes([0xED]) + b"\xff" * 30 + b"\x7f",  # p, which is 0
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ],
)
def test_a_public_key_of_small_order_is_refused(public: bytes) -> None:
    with pytest.raises(MessageError, match="no X25519 public key"):
        MaskKey().pair_key(public, "ring")


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_public_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(MessageError, match="no X25519 public key"):
        MaskKey().pair_key(b"\x09" * size, "ring")
