"""Damaged messages against the ring's operations, thousands of them, from fixed seeds.

A site may answer a damaged message with three errors only: MessageError; ConfigError, where a
message asks for a ring that the site's own settings do not allow; OutOfRangeError, where numbers
decrypt to what no sum can be or a weight is none. For a round that has no update at the site the
store's ValueError passes through.
"""

import json
import os
import random
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_fl.aggregation import CyclicCKKS
from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.wire.messages import HEAD, Message, MessageError
from tests.lightning_fl.aggregation.hosts import (
    ROUND,
    RingByHand,
    body_of,
    make_hosts,
    random_updates,
    with_digest,
)

LENGTH = 20
Damage = Callable[[random.Random, bytes], bytes]


SITES = {
    "ring_join": "A",
    "ring_open": "A",
    "ring_start": "B",
    "ring_pass": "B",
    "ring_close": "A",
    "ring_drop": "B",
}
"""Where each operation's message is due; A leads the ring."""
BENT = {"ring_join": 150, "ring_open": 300, "ring_start": 150, "ring_pass": 120, "ring_close": 100}
"""How many bent messages each operation gets; most of them cost a whole ring."""


class Stage:
    """A ring of A, B and C that stops where one message of one kind is due.

    Args:
        op: the operation that is due.
    """

    def __init__(self, op: str) -> None:
        self.op, self.site = op, SITES[op]
        aggregator = CyclicCKKS(weights="equal")  # so that no message can change a weight
        self.ring = RingByHand(
            make_hosts(aggregator, random_updates(3, LENGTH), round_=ROUND), "ABC"
        )
        self.due = getattr(self, f"_at_{op}")()

    def deliver(self, payload: bytes) -> Message:
        return self.ring.ask(self.op, self.site, payload)

    def outcome(self, payload: bytes) -> Tensor:
        """The ring's sums, with `payload` in place of what was due."""
        answer = self.ring.hosts[self.site].handle(self.op, payload)
        if self.op == "ring_join":
            self.ring.members["A"] = Message.decode(answer).info
            for site in "BC":
                self.ring.members[site] = self.ring.ask("ring_join", site, self._plain(site)).info
            self.ring.open().start()
        if self.op == "ring_open":
            opened = Message.decode(answer)
            self.ring.context, self.ring.public_key = opened.context, dict(opened.tensors)
            self.ring.start()
        if self.op == "ring_start":
            self.ring.ask("ring_start", "C", self.ring.opening("C"))
        if self.op == "ring_pass":
            answer = self.ring.hosts["C"].handle("ring_pass", answer)
        elif self.op != "ring_close":
            answer = self.ring.due(3)
        if self.op != "ring_close":
            answer = self.ring.hosts["A"].handle("ring_close", answer)
        closed = Message.decode(answer)
        return self.ring.sums(closed)

    def wanted(self) -> Tensor:
        return torch.stack([h.vector for h in self.ring.hosts.values()]).double().sum(0).float()

    def _plain(self, site: str) -> bytes:
        return self.ring.joining(site)

    def _at_ring_join(self) -> bytes:
        return self._plain("A")

    def _at_ring_open(self) -> bytes:
        return self.ring.join().opening("A")

    def _at_ring_start(self) -> bytes:
        return self.ring.join().open().opening("B")

    def _at_ring_pass(self) -> bytes:
        return self.ring.begin().due(1)

    def _at_ring_close(self) -> bytes:
        return self.ring.begin().due(3)

    def _at_ring_drop(self) -> bytes:
        self.ring.begin()
        return self.ring.message("B")


# ---------------------------------------------------------------------- damage


def flip(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def flip_early(rng: random.Random, data: bytes) -> bytes:
    """Flips where heads and JSON are."""
    return flip(rng, data[:600]) + data[600:]


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def insert(rng: random.Random, data: bytes) -> bytes:
    where = rng.randrange(len(data) + 1)
    return data[:where] + rng.randbytes(rng.randint(1, 40)) + data[where:]


def remove(rng: random.Random, data: bytes) -> bytes:
    where = rng.randrange(len(data))
    return data[:where] + data[where + rng.randint(1, 40) :]


def overwrite(rng: random.Random, data: bytes) -> bytes:
    where, size = rng.randrange(len(data)), rng.choice([1, 8, 64])
    filling = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
    return (data[:where] + filling + data[where + size :])[: len(data)]


def swap(rng: random.Random, data: bytes) -> bytes:
    """Exchange two pieces of eight bytes."""
    found = bytearray(data)
    a, b = rng.randrange(len(data) - 8), rng.randrange(len(data) - 8)
    found[a : a + 8], found[b : b + 8] = data[b : b + 8], data[a : a + 8]
    return bytes(found)


DAMAGES: list[Damage] = [flip, flip_early, cut, insert, remove, overwrite, swap]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**30, 1.5, float("nan"), float("inf")),
    *("", "A", "B", "C", "coordinator", "ring-1", [], ["A"], [["A"]], [1], {}, {"A": {}}),
]


def change_field(rng: random.Random, payload: bytes) -> bytes:
    """Another value, often of another type, for one field of the frame or of its info."""
    body = body_of(payload)
    size = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + size])
    frame = json.loads(header["__metadata__"]["frame"])
    where = rng.choice([frame, frame["info"] or frame])
    name = rng.choice(list(where))
    action = rng.choice(["set", "set", "delete", "swap", "inside"])
    if action == "delete":
        del where[name]
    elif action == "swap":
        other = rng.choice(list(where))
        where[name], where[other] = where[other], where[name]
    elif action == "inside" and isinstance(where[name], list) and where[name]:
        where[name][rng.randrange(len(where[name]))] = rng.choice(VALUES)
    else:
        where[name] = rng.choice(VALUES)
    header["__metadata__"]["frame"] = json.dumps(frame)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body[8 + size :]


def bend(rng: random.Random, payload: bytes) -> bytes:
    """A damaged body under a head that fits it."""
    if rng.random() < 0.5:
        return with_digest(change_field(rng, payload))
    return with_digest(rng.choice(DAMAGES)(rng, body_of(payload)))


def outcome_of(stage: Stage, payload: bytes) -> tuple[Exception | None, Tensor | None]:
    """What the ring raised, or its sums."""
    try:
        return None, stage.outcome(payload)
    except Exception as error:
        return error, None


def is_refusal(error: Exception | None) -> bool:
    """One of the three errors, or the store's word that a round has no update here."""
    known = type(error) in (MessageError, ConfigError, OutOfRangeError)
    return known or (type(error) is ValueError and "not of round" in str(error))


# ---------------------------------------------------------------------- tests

OPS = list(SITES)


@pytest.mark.parametrize("op", OPS)
def test_every_stage_ends_in_the_sum_when_nothing_is_damaged(op: str) -> None:
    stage = Stage(op)
    if op == "ring_drop":
        assert stage.deliver(stage.due).info == {}
        return
    torch.testing.assert_close(stage.outcome(stage.due), stage.wanted(), rtol=0, atol=3 * 2**-25)


@pytest.mark.parametrize("op", OPS)
def test_thousands_of_damaged_messages_are_refused_and_change_nothing(op: str) -> None:
    """1800 for each of six operations; their digest gives them away, whatever the damage."""
    stage, rng = Stage(op), random.Random(op)
    for _ in range(1800):
        payload = rng.choice(DAMAGES)(rng, stage.due)
        if payload == stage.due:
            continue
        with pytest.raises(MessageError):
            stage.deliver(payload)
    if op != "ring_drop":
        sums = stage.outcome(stage.due)
        torch.testing.assert_close(sums, stage.wanted(), rtol=0, atol=3 * 2**-25)


@pytest.mark.parametrize("op", BENT)
def test_bent_messages_with_a_new_digest_never_end_in_a_wrong_sum(op: str) -> None:
    """Each is refused with one of the known errors, or the sum is, or the sum is right."""
    rng, stage, right = random.Random(op), Stage(op), 0
    for _ in range(BENT[op]):
        payload = bend(rng, stage.due)
        if payload == stage.due:
            continue
        refusal, sums = outcome_of(stage, payload)
        if sums is None:
            assert is_refusal(refusal), repr(refusal)
        else:
            right += 1
            torch.testing.assert_close(sums, stage.wanted(), rtol=0, atol=3 * 2**-25)
        stage = Stage(op)
    assert right < BENT[op] / 2


@pytest.mark.parametrize("op", ["ring_pass", "ring_close"])
def test_no_flipped_ciphertext_with_a_new_digest_is_ever_opened(op: str) -> None:
    """100 whole rings each, of a neighbour that lies; SEAL takes most, the decryption none."""
    rng, at_decryption = random.Random(op), 0
    for _ in range(100):
        stage = Stage(op)
        data = bytearray(stage.due)
        data[rng.randrange(HEAD + 1000, len(data) - 100)] ^= 1 << rng.randrange(8)
        with pytest.raises((MessageError, OutOfRangeError)) as refused:
            stage.outcome(stage.ring.tagged(with_digest(body_of(bytes(data)))))
        at_decryption += refused.type is OutOfRangeError
    assert at_decryption > 50


LEGACY = [bytes.fromhex(f"b7be36{mode}a38e2f14753c1a4e08417ff9") for mode in ("01", "02")]
"""Where SEAL expects a header, these abort the process: headers of its version 3.4, compressed."""


@pytest.mark.parametrize("op", ["ring_pass", "ring_close"])
@pytest.mark.parametrize("header", LEGACY, ids=["zlib", "zstd"])
def test_headers_forged_anywhere_in_a_block_do_not_end_the_process(op: str, header: bytes) -> None:
    """In a child process, which an abort of SEAL would end with a signal."""
    stage = Stage(op)
    body = body_of(stage.due)
    block = Message.decode(stage.due).tensors["block"].numpy().tobytes()
    start = body.index(block)
    places = [start, start + 83, start + 97, start + 8 * 4096, len(body) - 80, len(body) - 64]
    for place in places:
        forged = with_digest(body[:place] + header + body[place + 16 :])
        if start <= place < start + len(block) - 16:
            forged = stage.ring.tagged(forged)
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.close(2)
            refusal, _ = outcome_of(stage, forged)
            os._exit(0 if is_refusal(refusal) else 1)
        _, status = os.waitpid(child, 0)
        assert not os.WIFSIGNALED(status), f"the site died of signal {os.WTERMSIG(status)}"
        assert os.WEXITSTATUS(status) == 0


def test_no_bytes_of_others_reach_seal_but_numbers() -> None:
    """All that a block or a public key holds are coefficients and a seed, to the byte."""
    stage = Stage("ring_close")
    exchanges = {op: Stage(op).due for op in ("ring_start", "ring_pass")}
    assert Message.decode(exchanges["ring_start"]).tensors["public_key"].numel() == 2 * 8 * 4096
    assert Message.decode(exchanges["ring_pass"]).tensors["block"].numel() == 8 * 4096 + 64
    assert Message.decode(stage.due).tensors["block"].numel() == 2 * 8 * 4096
    for payload in (stage.due, *exchanges.values()):
        assert b"\x5e\xa1\x10\x04" not in payload
