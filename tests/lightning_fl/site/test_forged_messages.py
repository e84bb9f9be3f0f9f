"""Thousands of forged and out-of-order messages over all operations of a site change nothing."""

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.errors import ConfigError, OutOfRangeError
from lightning_fl.site.site import Site
from lightning_fl.training.layout import vector_digest
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError
from tests.lightning_fl.site.lab import SITES, Lab

REFUSALS = (MessageError, ConfigError, OutOfRangeError, ValueError)
"""All that a message may raise at a site."""
LENGTH = 21
JUNK: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 10**9, 0.5, 1.0, float("nan"), "", "A", "x" * 200),
    *([], [1], ["A", "B", "C", "D"], ["A", "B", "C"], {}, {"A": 1}, {"A": {"mask_key": "00"}}),
]
KEYS = (
    *("blocks", "server", "memory", "attested", "share", "proof", "keep", "order"),
    *("largest", "exponents", "members", "ahead", "tag", "weight", "sites"),
)


def forged(lab: Lab, rng: random.Random, operations: list[str]) -> tuple[str, bytes]:
    """A message that is whole and says anything."""
    op = rng.choice(operations)
    info: dict[str, Any] = {key: rng.choice(JUNK) for key in rng.sample(KEYS, rng.randint(0, 6))}
    if op in ("load", "apply") and rng.random() < 0.7:
        info |= {"blocks": 1, "server": [], "share": 1.0, "proof": {}}
    if op == "ring_join" and rng.random() < 0.7:
        order = rng.sample(SITES, rng.randint(2, 4))
        info |= {"order": order, "largest": 9}
        info |= {"share": 1.0, "exponents": None}
    tensors = {}
    if rng.random() < 0.8:
        name = {"load": "weights", "apply": "mean"}.get(op, "block")
        length = rng.choice([LENGTH, LENGTH, 0, 1, 2 * LENGTH])
        kind = rng.choice([torch.float32, torch.float32, torch.int64, torch.uint8])
        tensors = {name: torch.full((length,), rng.choice([0.0, 1.0, 3.0])).to(kind)}
    message = Message(
        run=rng.choice([lab.run.run_id] * 9 + ["another"]),
        round=rng.choice([0, 1, 1, 2, 3, 4, 5, 99]),
        sender=rng.choice([COORDINATOR] * 5 + ["B", "A", "x"]),
        step=rng.choice([0, 0, 0, 1, 7]),
        info=info,
        tensors=tensors,
        recipient=rng.choice(["A", "A", "A", "", "B"]),
        ring=rng.choice(["", "ring", "another"]),
        context=rng.choice(["", "0" * 32]),
    )
    return op, message.encode()


def barrage(lab: Lab, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Send a site so many messages; how many it refused."""
    monkeypatch.setattr("lightning_fl.site.ledger.MOST_REFUSALS", 10**9)
    monkeypatch.setattr("lightning_fl.site.ledger.MOST_STARTS", 10**9)
    monkeypatch.setattr(Site, "_rehearse", lambda site: None)
    lab.rounds(1)
    site = lab.sites["A"]
    store, ledger = site.state.store, site.ledger
    accepted = {round_: ledger.fingerprint(round_) for round_ in (0, 1)}
    update = store.update(1, 0, LENGTH).clone()
    rng, refused = random.Random(0), 0
    for _ in range(count):
        op, payload = forged(lab, rng, sorted(site._operations))
        try:
            site.handle(op, payload)
        except REFUSALS:
            refused += 1
        stored = [r for r in range(5) if store.has_weights(r)]
        assert {round_: ledger.fingerprint(round_) for round_ in (0, 1)} == accepted
        for round_ in stored:
            kept = ledger.fingerprint(round_)
            assert kept is not None
            assert vector_digest(store.weights(round_)) == kept.weights
        assert {ledger.fingerprint(round_) for round_ in (2, 3, 4)} == {None}
        if store.has_update(1):
            assert torch.equal(store.update(1, 0, LENGTH), update)
    for file in ("ledger.json", "rings.json"):
        assert (store.folder / file).stat().st_size < 200_000
    return refused


def test_a_thousand_forged_messages_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert barrage(Lab(tmp_path), 1000, monkeypatch) > 800


@pytest.mark.slow
def test_ten_thousand_forged_messages_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert barrage(Lab(tmp_path), 10_000, monkeypatch) > 8500


def test_a_site_answers_a_hundred_of_them_and_leaves(tmp_path: Path) -> None:
    lab = Lab(tmp_path).rounds(1)
    rng, site = random.Random(1), lab.sites["A"]
    for _ in range(1000):
        op, payload = forged(lab, rng, ["load", "apply", "train"])
        with suppress(*REFUSALS):
            site.handle(op, payload)
        if site.ledger.has_left:
            break
    assert site.ledger.has_left
    with pytest.raises(MessageError, match="has left run"):
        lab.ask("A", "evaluate", 1)
