"""The key to a ring's sums comes of enough shares, and fewer say nothing."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_fl.aggregation.ring.shares import (
    PRIME,
    SIZE,
    digest_of_share,
    join_shares,
    make_shares,
    needed_shares,
)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9))
def test_any_of_enough_shares_give_the_key(sites: int) -> None:
    needed = needed_shares(sites)
    key, shares = make_shares(needed, sites - 1)
    for places in itertools.combinations(range(sites - 1), needed):
        assert join_shares({place: shares[place] for place in places}) == key
    assert join_shares(dict(enumerate(shares))) == key


@pytest.mark.parametrize("sites", [4, 5, 9])
def test_fewer_shares_fit_every_key_alike(sites: int) -> None:
    """For any other key there is a last share that gives it, so the key cannot be told."""
    needed = needed_shares(sites)
    key, shares = make_shares(needed, sites - 1)
    known = {place: shares[place] for place in range(needed - 1)}
    guesses = {}
    for last in (0, 1, PRIME - 1):
        guesses[last] = join_shares({**known, needed - 1: last.to_bytes(SIZE, "big")})
    assert len({*guesses.values(), key}) == 4


def test_shares_and_keys_are_new_each_time_and_false_ones_are_known() -> None:
    key, shares = make_shares(2, 3)
    other, others = make_shares(2, 3)
    assert key != other
    assert len({*shares, *others, key, other}) == 8
    digests = [digest_of_share(share) for share in shares]
    assert [digest_of_share(share) for share in shares] == digests
    assert not set(digests) & {digest_of_share(share) for share in (*others, key, b"")}
    assert join_shares({0: shares[0], 1: others[1]}) != key


@pytest.mark.parametrize(("sites", "needed"), [(2, 1), (3, 1), (4, 2), (5, 3), (9, 7)])
def test_one_site_besides_the_initiator_may_be_lost(sites: int, needed: int) -> None:
    assert needed_shares(sites) == needed
