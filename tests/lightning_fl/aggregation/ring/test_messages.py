"""Messages that no honest ring sends, and the reasons for which sites refuse them."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.aggregation.ring import ckks
from lightning_fl.aggregation.ring.byte_tensors import seal, unseal
from lightning_fl.aggregation.ring.ckks import RingKey
from lightning_fl.aggregation.ring.ring_plan import CIPHERTEXTS_PER_BLOCK, ring_order
from lightning_fl.errors import OutOfRangeError, TooFewSitesError
from lightning_fl.wire.messages import HEAD, Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    Host,
    Hosts,
    OnAnswer,
    RingByHand,
    altered,
    join_hosts,
    make_hosts,
    random_updates,
)

BLOCK = CIPHERTEXTS_PER_BLOCK * 4096
"""Values in a block of the wide grid."""


class Parsed:
    """Counts what SEAL is given to read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        load = ckks._Buffer.load

        def counted(buffer: Any, item: Any, context: Any, data: bytes) -> None:
            self.count += 1
            load(buffer, item, context, data)

        monkeypatch.setattr(ckks._Buffer, "load", counted)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    return Parsed(monkeypatch)


def hosts_of(length: int = 20, count: int = 3, **settings: Any) -> dict[str, Host]:
    return make_hosts(CyclicCKKS(**settings), random_updates(count, length), round_=ROUND)


def ring_of(length: int = 20, **settings: Any) -> RingByHand:
    """The ring A, B, C, ready to pass blocks."""
    return RingByHand(hosts_of(length, **settings), "ABC").begin()


def state(ring: RingByHand, site: str) -> Any:
    member: Any = ring.hosts[site].operations["ring_pass"]
    return member.__self__.state


def refuse(
    ring: RingByHand, op: str, site: str, payload: bytes, reason: str, parsed: Parsed
) -> None:
    """The site refuses, says why, and SEAL has seen nothing of it."""
    before = parsed.count
    with pytest.raises(MessageError, match=reason):
        ring.ask(op, site, payload)
    assert parsed.count == before


def finish(ring: RingByHand, due: bytes) -> Tensor:
    """Carry a ring of one block on from B, and read its sums."""
    for site in "BC":
        due = ring.hosts[site].handle("ring_pass", due)
    return ring.sums(ring.ask("ring_close", "A", due))


def expected_sum(ring: RingByHand) -> Tensor:
    return torch.stack([host.vector for host in ring.hosts.values()]).double().sum(0).float()


def test_the_ring_by_hand_gives_the_sum_and_the_counter_counts(parsed: Parsed) -> None:
    ring = ring_of()
    before = parsed.count
    torch.testing.assert_close(
        finish(ring, ring.due(1)), expected_sum(ring), rtol=0, atol=3 * 2**-25
    )
    assert parsed.count == before + 3  # at B, at C and when it is closed


# ---------------------------------------------------------------------- a block that is passed on

DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda p: p[: len(p) // 2], r"should have \d+ bytes after its head, but has"),
    "cut to its head": (lambda p: p[:HEAD], r"should have \d+ bytes after its head, but has 0"),
    "cut inside its head": (lambda p: p[: HEAD - 1], "no message, or a damaged one"),
    "lengthened": (lambda p: p + b"\0", r"should have \d+ bytes after its head"),
    "altered": (lambda p: p[:-1] + bytes([p[-1] ^ 1]), "is damaged; send it again"),
    "of another version": (
        lambda p: p[:7] + b"\x02" + p[8:],
        "version 2, but this side speaks 1. Install the same lightning-fl on both sides",
    ),
    "of another run": (
        lambda p: altered(p, run="other"),
        "takes part in run 'run', but the message belongs to 'other'",
    ),
    "of another round": (
        lambda p: altered(p, round=2),
        r"for \(ring, round\) \('ring-1', 2\) reached site 'B', which is in \('ring-1', 12\)",
    ),
    "of another ring": (
        lambda p: altered(p, ring="ring-0"),
        r"for \(ring, round\) \('ring-0', 12\) reached site 'B', which is in \('ring-1', 12\)",
    ),
    "of no ring": (lambda p: altered(p, ring=""), r"for \(ring, round\) \('', 12\) reached"),
    "of another key": (
        lambda p: altered(p, context="0" * 32),
        r"has the context '0{32}', but the ring's is [0-9a-f]{32}: it belongs to another key",
    ),
    "of no key": (lambda p: altered(p, context=""), "has the context '', but the ring's is"),
    "from the successor": (
        lambda p: altered(p, sender="C"),
        "from 'C' to 'B' reached site 'B', where one from 'A' was due",
    ),
    "from the site itself": (lambda p: altered(p, sender="B"), "where one from 'A' was due"),
    "from the coordinator": (
        lambda p: altered(p, sender="coordinator"),
        "from 'coordinator' to 'B' reached site 'B', where one from 'A' was due",
    ),
    "for another site": (
        lambda p: altered(p, recipient="C"),
        "A message for 'C' reached site 'B' instead",
    ),
    "for everybody": (lambda p: altered(p, recipient=""), "from 'A' to '' reached site 'B'"),
    "of a later block": (
        lambda p: altered(p, step=1),
        "expects block 0 of 1 of ring 'ring-1', but got 1; a block passes once",
    ),
    "of a block before the first": (
        lambda p: altered(p, step=-1),
        r"fields out of their range: \['step'\]",
    ),
}


def with_block(payload: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Other bytes in a block."""
    data = change(bytes(Message.decode(payload).tensors["block"].numpy()))
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0).byte()
    return altered(payload, tensors={"block": tensor})


DAMAGES |= {
    "too long": (lambda p: with_block(p, lambda b: b + bytes(1)), "not as site"),
    "of other bytes": (lambda p: with_block(p, lambda b: bytes([b[0] ^ 1]) + b[1:]), "not as site"),
    "of another tag": (lambda p: altered(p, info={"tag": "0" * 64}), "not as site"),
    "of a tag in other letters": (lambda p: altered(p, info={"tag": "ä"}), "not as site"),
    "without its tag": (lambda p: altered(p, info={}), "not as site"),
    "without its bytes": (lambda p: altered(p, tensors={}), "lacks its bytes"),
    "of numbers that are no bytes": (
        lambda p: altered(p, tensors={"block": torch.zeros(9)}),
        "lacks its bytes, or they are not one row of bytes",
    ),
    "of two rows": (
        lambda p: altered(p, tensors={"block": torch.zeros(2, 2, dtype=torch.uint8)}),
        "not one row of bytes",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_block_is_refused_before_seal_parses_it_and_the_right_one_still_passes(
    parsed: Parsed, damage: str
) -> None:
    change, reason = DAMAGES[damage]
    ring = ring_of()
    due = ring.due(1)
    refuse(ring, "ring_pass", "B", change(due), reason, parsed)
    torch.testing.assert_close(finish(ring, due), expected_sum(ring), rtol=0, atol=3 * 2**-25)


@pytest.mark.parametrize(
    "change", [lambda b: b + bytes(1), lambda b: b[:-1], lambda b: b"", lambda b: b * 2]
)
def test_a_neighbours_block_of_another_size_is_refused_before_seal_parses_it(
    parsed: Parsed, change: Callable[[bytes], bytes]
) -> None:
    ring = ring_of()
    due = ring.due(1)
    reason = r"should hold 1 ciphertexts of \d+ bytes, but has \d+ bytes"
    refuse(ring, "ring_pass", "B", ring.tagged(with_block(due, change)), reason, parsed)
    torch.testing.assert_close(finish(ring, due), expected_sum(ring), rtol=0, atol=3 * 2**-25)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "from the successor"])
def test_a_finished_block_is_refused_at_its_close_before_seal_parses_it(
    parsed: Parsed, damage: str
) -> None:
    ring = ring_of()
    due = ring.due(3)
    refuse(ring, "ring_close", "A", DAMAGES[damage][0](due), ".", parsed)
    sums = ring.sums(ring.ask("ring_close", "A", due))
    torch.testing.assert_close(sums, expected_sum(ring), rtol=0, atol=3 * 2**-25)


def test_a_block_that_was_passed_is_refused_when_it_comes_again(parsed: Parsed) -> None:
    ring = ring_of(BLOCK + 1)
    due = ring.due(1)
    ring.ask("ring_pass", "B", due)
    reason = "expects block 1 of 2 of ring 'ring-1', but got 0; a block passes once"
    refuse(ring, "ring_pass", "B", due, reason, parsed)


def test_a_block_that_comes_again_after_the_last_one_is_refused(parsed: Parsed) -> None:
    ring = ring_of()
    due = ring.due(1)
    ring.ask("ring_pass", "B", due)
    refuse(ring, "ring_pass", "B", due, r"reached site 'B', which is in None", parsed)


def test_a_block_of_the_ring_before_is_refused_in_the_next(parsed: Parsed) -> None:
    hosts = hosts_of()
    old = RingByHand(hosts, "ABC").begin().due(1)
    ring = RingByHand(hosts, "ABC", ring="ring-2").begin()
    reason = r"\('ring-1', 12\) reached site 'B', which is in \('ring-2', 12\)"
    refuse(ring, "ring_pass", "B", old, reason, parsed)
    renamed = altered(old, ring="ring-2")
    refuse(ring, "ring_pass", "B", renamed, "it belongs to another key", parsed)


def test_the_initiator_takes_no_block_from_a_site_before_its_own_has_gone(parsed: Parsed) -> None:
    ring = ring_of()
    due = altered(ring.message("A"), sender="C")
    reason = "from 'C' to 'A' reached site 'A', where one from 'coordinator' was due"
    refuse(ring, "ring_pass", "A", due, reason, parsed)


def test_the_initiator_gives_its_own_block_once(parsed: Parsed) -> None:
    """Two encryptions of one block under one mask would be one too many."""
    ring = ring_of()
    ring.due(1)
    reason = "expects block 1 of 1 of ring 'ring-1', but got 0; a block passes once"
    refuse(ring, "ring_pass", "A", ring.message("A"), reason, parsed)


# ---------------------------------------------------------------------- joining and opening


def test_a_ring_is_joined_once(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "ABC").join()
    reason = "Ring 'ring-1' has been used before; its masks are spent"
    refuse(ring, "ring_join", "A", ring.joining("A"), reason, parsed)
    ring.open().start()
    finish(ring, ring.due(1))
    refuse(ring, "ring_join", "A", ring.joining("A"), reason, parsed)


def test_a_ring_without_a_name_is_not_joined(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "ABC", ring="")
    refuse(ring, "ring_join", "A", ring.joining("A"), "Ring '' has been used before", parsed)


@pytest.mark.parametrize("op", ["ring_join", "ring_open", "ring_start", "ring_drop"])
def test_only_the_coordinator_prepares_a_ring(parsed: Parsed, op: str) -> None:
    ring = RingByHand(hosts_of(), "ABC")
    payload = altered(ring.message("A"), sender="B")
    reason = "from 'B' to 'A' reached site 'A', where one from 'coordinator' was due"
    refuse(ring, op, "A", payload, reason, parsed)
    payload = altered(ring.message("A"), recipient="")
    refuse(ring, op, "A", payload, "from 'coordinator' to '' reached site 'A'", parsed)


@pytest.mark.parametrize("op", ["ring_open", "ring_start"])
def test_a_ring_must_be_joined_first(parsed: Parsed, op: str) -> None:
    ring = RingByHand(hosts_of(), "ABC")
    reason = "'A' has not joined ring 'ring-1' or is in it already"
    refuse(ring, op, "A", ring.opening("A"), reason, parsed)


@pytest.mark.parametrize("op", ["ring_pass", "ring_close"])
def test_no_block_is_taken_before_the_ring_has_begun(parsed: Parsed, op: str) -> None:
    ring = RingByHand(hosts_of(), "ABC").join()
    reason = r"\('ring-1', 12\) reached site 'A', which is in None"
    refuse(ring, op, "A", ring.message("A"), reason, parsed)


def test_a_ring_is_opened_and_started_once(parsed: Parsed) -> None:
    ring = ring_of()
    reason = "has not joined ring 'ring-1' or is in it already"
    refuse(ring, "ring_open", "A", ring.opening("A"), reason, parsed)
    refuse(ring, "ring_start", "B", ring.opening("B"), reason, parsed)


@pytest.mark.parametrize("ended", ["passed", "dropped"])
def test_a_ring_that_has_ended_at_a_site_is_not_started_again(parsed: Parsed, ended: str) -> None:
    """The same masks would hide two different messages."""
    ring = ring_of()
    if ended == "passed":
        ring.ask("ring_pass", "B", ring.due(1))
    else:
        ring.ask("ring_drop", "B", ring.message("B"))
    reason = "has not joined ring 'ring-1' or is in it already"
    refuse(ring, "ring_start", "B", ring.opening("B"), reason, parsed)


def test_the_masks_of_a_ring_never_hide_two_messages(parsed: Parsed) -> None:
    """An initiator and a coordinator together would subtract one from the other."""
    ring = RingByHand(hosts_of(), "ABC").join().open()
    parameters, key = state(ring, "A").ring.plan.parameters, state(ring, "A").key
    nothing = key.encrypt(np.zeros(parameters.degree))[0]
    data = torch.frombuffer(bytearray(nothing), dtype=torch.uint8)
    unsigned = ring.message("B", sender="A", tensors={"block": data})

    def what_b_adds(largest: int) -> Any:
        if largest != ring.info["largest"]:
            ring.ask("ring_join", "B", ring.joining("B", largest=largest))
        ring.ask("ring_start", "B", ring.opening("B"))
        arriving = ring.tagged(unsigned)
        added = bytes(ring.ask("ring_pass", "B", arriving).tensors["block"].numpy())
        reals = key.decrypt(key.context.from_bytes([added]))
        return np.rint(reals[: len(ring.hosts["B"].vector)]).astype(np.int64)

    whole = what_b_adds(1)
    try:
        half = what_b_adds(2)
    except MessageError:
        return
    difference = (whole - half) % 2**parameters.word_bits
    signed = (difference + 2 ** (parameters.word_bits - 1)) % 2**parameters.word_bits
    signed = signed - 2 ** (parameters.word_bits - 1)
    read = 2 * state(ring, "A").ring.plan.grid.to_values(signed, 0)
    off = float(np.abs(read - ring.hosts["B"].vector.double().numpy()).max())
    pytest.fail(f"B's masks hid two messages; their difference is its update, but for {off:.1g}")


def test_a_ring_of_two_sites_is_refused(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "AB")
    reason = "With two sites the sum gives each of them the other's update"
    for site in "AB":
        refuse(ring, "ring_join", site, ring.joining(site), reason, parsed)


def test_a_ring_of_one_site_is_refused_even_where_two_are_allowed(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(allow_two_sites=True), "A")
    reason = "A ring needs sites to hide among, but there is 1"
    refuse(ring, "ring_join", "A", ring.joining("A"), reason, parsed)


def test_two_sites_are_a_ring_where_they_are_allowed() -> None:
    RingByHand(hosts_of(allow_two_sites=True), "AB").begin()


def test_a_ring_of_fewer_sites_than_a_hospital_accepts_is_refused(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "ABC")
    ring.hosts["B"].least_sites = 4
    reason = r"The ring has 3 sites, but site 'B' takes part with at least 4 \(`least_sites`\)"
    refuse(ring, "ring_join", "B", ring.joining("B"), reason, parsed)


NO_ORDERS: list[tuple[Any, str]] = [
    (["A", "C", "D"], "is due|no ring"),
    (["A", "B", "C", "B"], "has a site twice"),
    ([], "has 0 sites, but site 'B' takes part with at least 1"),
    (["b", "c", "a"], "is due|no ring"),
    (["B", "A", "C"], r"\['A', 'B', 'C'\] is due, and not"),
    (None, "is no list of sites"),
    ("ABC", "is no list of sites"),
    ({"A": 0, "B": 1, "C": 2}, "is no list of sites"),
    ([["A"], "B", "C"], "is no list of sites"),
    ([None, "B", "C"], "is no list of sites"),
    ([1, "B", "C"], "is no list of sites"),
]


@pytest.mark.parametrize(("order", "reason"), NO_ORDERS, ids=lambda v: str(v)[:20])
@pytest.mark.parametrize("masking", ["pairwise", "none"])
def test_an_order_that_the_round_does_not_give_is_refused(
    parsed: Parsed, order: Any, reason: str, masking: str
) -> None:
    ring = RingByHand(hosts_of(masking=masking), "ABC")
    refuse(ring, "ring_join", "B", ring.joining("B", order=order), reason, parsed)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan"), None, 1, "1"])
def test_a_share_that_is_none_is_refused(parsed: Parsed, share: Any) -> None:
    ring = RingByHand(hosts_of(), "ABC")
    refuse(ring, "ring_join", "B", ring.joining("B", share=share), "share in", parsed)


def test_a_site_opens_only_a_ring_that_it_leads(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "ABC").join()
    reason = "Site 'A' opens this ring, not 'B'"
    refuse(ring, "ring_open", "B", ring.opening("B"), reason, parsed)
    ring.open()
    ring = RingByHand(hosts_of(), "ABC").join()
    reason = "Site 'A' opened this ring; it has the key"
    refuse(ring, "ring_start", "A", ring.opening("A"), reason, parsed)


def test_a_public_key_that_does_not_match_the_fingerprint_is_refused() -> None:
    ring = RingByHand(hosts_of(), "ABC").join().open()
    other = RingKey(state(ring, "A").ring.plan.parameters)
    data = torch.frombuffer(bytearray(other.public_key), dtype=torch.uint8)
    payload = altered(ring.opening("B"), tensors={"public_key": data})
    reason = f"have the fingerprint {other.context.fingerprint}, but the message says"
    with pytest.raises(MessageError, match=reason):
        ring.ask("ring_start", "B", payload)


def test_a_fingerprint_of_other_parameters_is_refused() -> None:
    """A site that was told another grid than the initiator must not take part."""
    ring = RingByHand(hosts_of(bits=24), "ABC").join().open()
    elsewhere = RingByHand(hosts_of(bits=16), "ABC", info={"exponents": [-16]}).join()
    elsewhere.context, elsewhere.public_key = ring.context, ring.public_key
    with pytest.raises(MessageError, match="parameters and public key have the fingerprint"):
        elsewhere.ask("ring_start", "B", elsewhere.opening("B"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes arrived where 65536 were due"),
        (bytes(65535), "65535 bytes arrived where 65536 were due"),
        (bytes(65537), "65537 bytes arrived where 65536 were due"),
    ],
)
def test_bytes_that_are_no_public_key_are_refused(parsed: Parsed, data: bytes, reason: str) -> None:
    ring = RingByHand(hosts_of(), "ABC").join().open()
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0).byte()
    payload = altered(ring.opening("B"), tensors={"public_key": tensor})
    refuse(ring, "ring_start", "B", payload, reason, parsed)


def test_a_start_without_a_public_key_is_refused(parsed: Parsed) -> None:
    ring = RingByHand(hosts_of(), "ABC").join().open()
    payload = altered(ring.opening("B"), tensors={})
    refuse(ring, "ring_start", "B", payload, "lacks its bytes", parsed)


MEMBERS: list[tuple[Any, str]] = [
    (None, "says members = None, which is no dict"),
    ([], r"says members = \[\], which is no dict"),
    ({}, "No usable mask key of site 'A' arrived: None"),
    ({"A": 3}, "No usable mask key of site 'A' arrived: 3"),
    ({"A": {}}, "No usable mask key of site 'A' arrived"),
    ({"A": {"mask_key": 3}}, "No usable mask key of site 'A' arrived"),
    ({"A": {"mask_key": "xyz"}}, "No usable mask key of site 'A' arrived"),
    ({"A": {"mask_key": "00" * 32}}, "mask key is no X25519 public key"),
    ({"A": {"mask_key": "09" * 31}}, "mask key is no X25519 public key"),
]


@pytest.mark.parametrize(("members", "reason"), MEMBERS)
def test_members_without_usable_mask_keys_are_refused(members: Any, reason: str) -> None:
    ring = RingByHand(hosts_of(), "ABC").join().open()
    info = {"members": members}
    with pytest.raises(MessageError, match=reason):
        ring.ask("ring_start", "B", altered(ring.opening("B"), info=info))


def test_a_site_does_not_take_its_own_mask_key_for_another_ones() -> None:
    ring = RingByHand(hosts_of(), "ABC").join().open()
    ring.members["A"] = ring.members["B"]
    with pytest.raises(MessageError, match="said to be from 'A' is this site's own"):
        ring.ask("ring_start", "B", ring.opening("B"))


@pytest.mark.parametrize(
    "exponents", [[], [-24, -24], ["-24"], [True], [1.5], [1000], [-1000], 7, "7", {"0": 1}, True]
)
def test_exponents_that_are_none_are_refused(exponents: Any) -> None:
    ring = RingByHand(hosts_of(bits=16), "ABC", info={"exponents": exponents})
    with pytest.raises((MessageError, ValueError), match="exponent"):
        ring.ask("ring_join", "A", ring.joining("A"))


@pytest.mark.parametrize("largest", [None, 0, -1, "5", [5], float("nan"), {}])
def test_a_largest_weight_that_is_none_is_refused(largest: Any) -> None:
    ring = RingByHand(hosts_of(), "ABC", info={"largest": largest}).join()
    with pytest.raises((MessageError, OutOfRangeError), match=r"most|largest"):
        ring.ask("ring_open", "A", ring.opening("A"))


@pytest.mark.parametrize("largest", [float("inf"), 10**400], ids=["inf", "huge"])
def test_a_largest_weight_that_leaves_nothing_of_an_update_is_refused(largest: Any) -> None:
    ring = RingByHand(hosts_of(bits=16), "ABC", info={"largest": largest}).join()
    with pytest.raises((MessageError, OutOfRangeError)):
        ring.ask("ring_open", "A", ring.opening("A"))


def test_a_round_whose_update_is_not_here_is_refused() -> None:
    ring = RingByHand(hosts_of(), ring_order("ABC", 30), round_=30)
    with pytest.raises(ValueError, match="of round 12, not of round 30"):
        ring.join()


# ---------------------------------------------------------------------- closing


def test_a_close_before_all_blocks_have_passed_is_refused(parsed: Parsed) -> None:
    ring = ring_of(BLOCK + 1)
    finished = ring.due(3, block=0)
    reason = "cannot close block 0 of ring 'ring-1': it has passed 1 and closed 0 of 2 blocks"
    refuse(ring, "ring_close", "A", finished, reason, parsed)


def test_blocks_are_closed_in_their_order_and_once(parsed: Parsed) -> None:
    ring = ring_of(BLOCK + 1)
    first, second = ring.due(3, block=0), ring.due(3, block=1)
    reason = r"cannot close block 1 .* passed 2 and closed 0 of 2 blocks"
    refuse(ring, "ring_close", "A", second, reason, parsed)
    ring.ask("ring_close", "A", first)
    refuse(ring, "ring_close", "A", first, r"cannot close block 0 .* closed 1 of 2", parsed)
    ring.ask("ring_close", "A", second)
    refuse(ring, "ring_close", "A", second, "reached site 'A', which is in None", parsed)


def test_only_the_initiator_closes(parsed: Parsed) -> None:
    ring = ring_of(BLOCK + 1)  # so that C is still in the ring after one block
    finished = ring.due(3)
    at_c = altered(finished, recipient="C")
    reason = "Site 'C' cannot close block 0 of ring 'ring-1'"
    refuse(ring, "ring_close", "C", at_c, reason, parsed)
    at_b = altered(finished, recipient="B")
    refuse(ring, "ring_close", "B", at_b, "Site 'B' cannot close block 0", parsed)


def test_a_part_of_the_sums_cannot_be_read_without_the_last_message() -> None:
    ring = ring_of(BLOCK + 1)
    finished = [ring.due(3, block=block) for block in (0, 1)]
    first, last = (ring.ask("ring_close", "A", payload) for payload in finished)
    assert "shares" not in first.info
    wanted = expected_sum(ring)
    sealed = first.tensors["sums"].numpy()
    clear = wanted[:BLOCK].numpy().view(np.uint8)
    assert abs(float((sealed == clear).mean()) - 1 / 256) < 1e-3  # as alike as chance makes it
    assert np.bincount(sealed, minlength=256).max() < 1.25 * len(sealed) / 256
    key = ring.key(last)
    sums = torch.cat([unseal(key, i, m.tensors["sums"]) for i, m in enumerate((first, last))])
    torch.testing.assert_close(sums, wanted, rtol=0, atol=3 * 2**-25)


@pytest.mark.parametrize("masking", ["pairwise", "initiator", "none"])
def test_a_ciphertext_of_another_key_is_noticed_at_its_decryption(masking: str) -> None:
    ring = ring_of(masking=masking)
    parameters = state(ring, "A").ring.plan.parameters
    foreign = RingKey(parameters).encrypt(np.zeros(parameters.degree))[0]
    due = ring.tagged(with_block(ring.due(1), lambda _: foreign))  # A lies of the ring's own key
    for site in "BC":
        due = ring.hosts[site].handle("ring_pass", due)
    with pytest.raises(OutOfRangeError, match="some site did not encrypt for this ring"):
        ring.ask("ring_close", "A", due)


def test_a_swapped_ciphertext_of_another_place_is_noticed_at_its_decryption() -> None:
    """A block from before the last site's masks were added: the masks do not cancel."""
    ring = ring_of()
    at_c = ring.due(2)
    ring.ask("ring_pass", "C", at_c)
    early = ring.tagged(altered(at_c, sender="C", recipient="A"))
    with pytest.raises(OutOfRangeError, match="some site did not"):
        ring.ask("ring_close", "A", early)


def test_a_message_of_one_site_alone_gives_the_initiator_nothing_it_can_read() -> None:
    """Its own key and B's message: uniform words, whatever B's update is."""
    ring = ring_of()
    key, parameters = state(ring, "A").key, state(ring, "A").ring.plan.parameters
    block = bytes(Message.decode(ring.due(2)).tensors["block"].numpy())
    words = np.rint(key.decrypt(key.context.from_bytes([block]))).astype(np.int64)
    words = words % 2**parameters.word_bits
    assert 0.4 < float((words < 2 ** (parameters.word_bits - 1)).mean()) < 0.6
    assert len(np.unique(words)) == len(words)


def test_a_site_forgets_a_ring_that_is_dropped(parsed: Parsed) -> None:
    ring = ring_of()
    due = ring.due(1)
    assert state(ring, "A").key is not None
    for site in "AB":
        ring.ask("ring_drop", site, ring.message(site))
        assert state(ring, site) is None
    refuse(ring, "ring_pass", "B", due, "reached site 'B', which is in None", parsed)


def test_a_drop_of_another_ring_changes_nothing() -> None:
    ring = ring_of()
    ring.ask("ring_drop", "B", ring.message("B", ring="ring-0"))
    torch.testing.assert_close(
        finish(ring, ring.due(1)), expected_sum(ring), rtol=0, atol=3 * 2**-25
    )


def test_a_ring_whose_decryption_failed_answers_no_more(parsed: Parsed) -> None:
    """Else a coordinator could try ciphertexts of its choice until it knows the key."""
    ring = ring_of()
    finished, other = ring.due(3), RingKey(state(ring, "A").ring.plan.parameters).context
    foreign = other.to_bytes(other.encrypt(np.zeros(4096)))[0]
    with pytest.raises(OutOfRangeError):
        ring.ask("ring_close", "A", ring.tagged(with_block(finished, lambda _: foreign)))
    refuse(ring, "ring_close", "A", finished, "reached site 'A', which is in None", parsed)


# ---------------------------------------------------------------------- at the coordinator


def federation_with(change: OnAnswer, **settings: Any) -> Hosts:
    aggregator = CyclicCKKS(**settings)
    hosts = join_hosts(aggregator, make_hosts(aggregator, random_updates(3, 20)))
    hosts.transport.on_answer = change
    return hosts


ANSWERS: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "cut": ("ring_pass", lambda a: a[:-1], "is damaged"),
    "dropped": ("ring_pass", lambda a: None, "dropped by the test"),
    "of another run": ("ring_pass", lambda a: altered(a, run="x"), "instead of"),
    "of another ring": ("ring_pass", lambda a: altered(a, ring="x"), "instead of"),
    "of another round": ("ring_pass", lambda a: altered(a, round=9), "instead of"),
    "of another block": ("ring_pass", lambda a: altered(a, step=9), "instead of"),
    "of another site": ("ring_pass", lambda a: altered(a, sender="x"), "instead of"),
    "of another key": ("ring_pass", lambda a: altered(a, context="x"), "answered in the context"),
    "without sums": ("ring_close", lambda a: altered(a, tensors={}), "gave no sums"),
    "without shares": ("ring_close", lambda a: altered(a, info={}), "gave no sums"),
    "with shares for nobody": ("ring_close", lambda a: altered(a, info={"shares": {}}), "no sums"),
    "without facts": (
        "ring_close",
        lambda a: altered(a, info=Message.decode(a).info | {"facts": "00"}),
        "gave no sums",
    ),
    "with odd bytes": (
        "ring_close",
        lambda a: altered(a, tensors={"sums": torch.zeros(79, dtype=torch.uint8)}),
        "gave no sums",
    ),
    "with too few sums": (
        "ring_close",
        lambda a: altered(a, tensors={"sums": torch.zeros(76, dtype=torch.uint8)}),
        "19 sums came, not 20",
    ),
}


@pytest.mark.parametrize("damage", ANSWERS)
def test_a_site_whose_answer_is_bad_is_lost_with_the_reason(damage: str) -> None:
    where, change, reason = ANSWERS[damage]
    victim = "B" if where == "ring_close" else "C"  # B opens the ring of round 1

    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        return change(answer) if (op, site) == (where, victim) else answer

    hosts = federation_with(on_answer)
    with pytest.raises(TooFewSitesError, match=f"(?s){victim}: .*{reason}"):
        hosts.mean()


@pytest.mark.parametrize(
    "seconds",
    [
        *("many", None, 3, [3]),
        *({"add": "many"}, {"add": None}, {"add": 10**400}, {"add": [3]}),
        {"a": float("inf"), "b": -float("inf")},
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_site_says_of_its_seconds_cannot_end_a_run(seconds: Any) -> None:
    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        return altered(answer, info=Message.decode(answer).info | {"seconds": seconds})

    hosts = federation_with(on_answer)
    mean = torch.stack([host.vector for host in hosts.hosts.values()]).double().mean(0).float()
    torch.testing.assert_close(hosts.mean().mean, mean, rtol=0, atol=2**-24)


@pytest.mark.parametrize("count", [None, "x", [], float("inf"), float("nan")])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    keys: list[bytes] = []

    def on_request(op: str, site: str, request: bytes) -> list[bytes]:
        if op == "ring_close":
            member: Any = hosts.hosts[site].operations[op]
            keys.append(member.__self__.state.seal)
        return [request]

    def on_answer(op: str, site: str, answer: bytes) -> bytes | None:
        if op != "ring_close":
            return answer
        facts = {"counts": {"sites": 3, "samples": count}, "mean": ""}
        sealed = seal(keys[0], 1, json.dumps(facts).encode()).hex()
        return altered(answer, info=Message.decode(answer).info | {"facts": sealed})

    hosts = federation_with(on_answer, weights="hidden")
    hosts.transport.on_request = on_request
    with pytest.raises(TooFewSitesError, match="B: gave no sums"):
        hosts.mean()


def test_a_block_that_is_delivered_twice_changes_nothing() -> None:
    aggregator = CyclicCKKS()
    hosts = join_hosts(aggregator, make_hosts(aggregator, random_updates(3, 20)))
    hosts.transport.on_request = lambda op, site, request: [request, request]
    mean = torch.stack([host.vector for host in hosts.hosts.values()]).double().mean(0).float()
    torch.testing.assert_close(hosts.mean().mean, mean, rtol=0, atol=2**-24)
    refused = hosts.transport.refusals()
    assert any("its masks are spent" in reason for reason in refused)
    assert any("reached site 'C', which is in None" in reason for reason in refused)


def test_a_ring_goes_on_without_a_site_that_fails_and_the_sum_is_the_others() -> None:
    aggregator = CyclicCKKS()
    hosts = join_hosts(aggregator, make_hosts(aggregator, random_updates(4, 20)))
    hosts.transport.on_request = lambda op, site, request: (
        [] if (op, site) == ("ring_pass", "C") else [request]
    )
    found = hosts.mean()
    rest = torch.stack([hosts.hosts[site].vector for site in "ABD"]).double().mean(0).float()
    torch.testing.assert_close(found.mean, rest, rtol=0, atol=2**-24)
    assert [*found.lost] == ["C"]
    assert found.facts["rings"] == 2
