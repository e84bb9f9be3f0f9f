"""A coordinator that encrypts blocks of its own, with the ring's public key, chooses no mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.byte_tensors import as_bytes, as_tensor
from lightning_fl.aggregation.ring.ckks import RingContext
from lightning_fl.aggregation.ring.fixed_point import Integers, to_limbs
from lightning_fl.aggregation.ring.member import RingMember
from lightning_fl.aggregation.ring.ring_plan import RingPlan
from lightning_fl.errors import TooFewSitesError
from lightning_fl.wire.messages import Message
from tests.lightning_fl.aggregation.hosts import altered
from tests.lightning_fl.site.lab import SITES, Lab


def sum_words(plan: RingPlan, integers: Integers) -> Integers:
    """Pack the sums of all sites' integers as the sum of their words would be."""
    parameters = plan.parameters
    per = parameters.values_per_ciphertext
    padded = np.zeros(-(-len(integers) // per) * per, dtype=np.int64)
    padded[: len(integers)] = integers
    lanes = (padded + parameters.limit * parameters.sites).reshape(parameters.lanes, -1)
    words = lanes[0].copy()
    for index in range(1, parameters.lanes):
        words |= lanes[index] << (index * parameters.lane_bits)
    return np.asarray(words)


class Forger:
    """Replaces what reaches the initiator in `ring_close`; everything in it is public.

    Args:
        plan: of the ring.
        integers: what the initiator is to decrypt, shape (plan.total,).
        add: add to the sites' sum, in place of replacing it; the counts stay those of the sites.
    """

    def __init__(self, plan: RingPlan, integers: Integers, *, add: bool = False) -> None:
        self.plan, self.integers, self.add = plan, integers, add
        self.context: RingContext | None = None

    def on_answer(self, op: str, site: str, answer: bytes) -> bytes:
        if op == "ring_open":
            public_key = bytes(as_bytes(Message.decode(answer).tensors["public_key"]))
            self.context = RingContext(self.plan.parameters, public_key)
        return answer

    def on_request(self, op: str, site: str, request: bytes) -> list[bytes]:
        if op != "ring_close":
            return [request]
        assert self.context is not None
        message = Message.decode(request)
        start, stop = self.plan.span(message.step)
        parameters, integers = self.plan.parameters, self.integers[start:stop]
        if self.add:
            words = np.zeros(
                -(-len(integers) // parameters.values_per_ciphertext) * parameters.degree, np.int64
            )
            flat = np.zeros(len(words) * parameters.lanes, dtype=np.int64)
            flat[: len(integers)] = integers
            for index, lane in enumerate(flat.reshape(parameters.lanes, -1)):
                words += lane << (index * parameters.lane_bits)
            blocks = self.context.encrypt(words.astype(np.float64))
            data = as_bytes(message.tensors["block"])
            size = self.context.forms.ciphertext.size
            pieces = [data[i : i + size] for i in range(0, len(data), size)]
            total = self.context.from_bytes(pieces)
            self.context.add(total, blocks)
            blocks = total
        else:
            half, modulus = 2 ** (parameters.word_bits - 1), 2**parameters.word_bits
            reals = (sum_words(self.plan, integers) - parameters.sites * half) % modulus
            reals = np.where(reals >= half, reals - modulus, reals).astype(np.float64)
            blocks = self.context.encrypt(reals)
        return [altered(request, tensors={"block": as_tensor(self.context.to_bytes(blocks))})]


def forged(lab: Lab, *, add: bool) -> Tensor:
    """Let all sites train and sum, with a forged block for the initiator; the weights it is for."""
    blueprint = lab.run.blueprint
    plan = blueprint.aggregator.settings.plan(len(SITES), blueprint.layout, None)  # type: ignore[attr-defined]
    chosen = torch.full_like(lab.state.weights, 0.5 if add else 7.0)
    move = chosen if add else chosen - lab.state.weights
    samples = next(iter(lab.sites.values())).state.samples() * len(SITES)
    claimed = {} if add else {"sites": len(SITES), "samples": samples}
    counts = [to_limbs(claimed.get(name, 0)) for name in plan.counts]
    integers = np.rint(move.double().numpy() * len(SITES) * 2**24).astype(np.int64)
    forger = Forger(plan, np.concatenate([integers, *counts]), add=add)
    transport: Any = lab.channel.transport
    transport.on_answer, transport.on_request = forger.on_answer, forger.on_request
    before = lab.state.weights.clone()
    lab.train()
    updates = [site.state.update(1, 0, len(before)) for site in lab.sites.values()]
    honest = torch.stack(updates).double().mean(0).float()
    return before + honest + chosen if add else chosen


@pytest.mark.parametrize("add", [False, True])
def test_a_coordinator_that_forges_a_block_for_the_initiator_is_refused(
    tmp_path: Path, add: bool
) -> None:
    """It knows the public key of the ring, and so can encrypt a sum, or add to it."""
    lab = Lab(tmp_path).begin()
    with pytest.raises(TooFewSitesError, match=r"Block 0 is not as site .* sent it"):
        forged(lab, add=add)


@pytest.mark.parametrize("add", [False, True])
def test_sites_that_do_not_check_who_sent_a_block_take_the_coordinators_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, add: bool
) -> None:
    """The control: what the tag of a block is for."""
    monkeypatch.setattr(
        RingMember, "_sent", lambda self, message: as_bytes(message.tensors["block"])
    )
    lab = Lab(tmp_path).begin()
    wanted = forged(lab, add=add)
    torch.testing.assert_close(lab.advance(), wanted, rtol=0, atol=1e-5)
    for site in lab.sites.values():
        assert torch.equal(site.state.store.weights(1), lab.state.weights)
