"""Take the global weights of a round: those a site can work out, or that others vouch for."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fl.aggregation.base import Outcome
from lightning_fl.algorithms import GlobalRound
from lightning_fl.site.block_receiver import BlockReceiver
from lightning_fl.site.ledger import Fingerprint, Ledger
from lightning_fl.site.local_state import LocalState
from lightning_fl.training.layout import (
    State,
    digest_of_memory,
    from_vector,
    to_vector,
    vector_digest,
)
from lightning_fl.wire.messages import Message, MessageError
from lightning_fl.wire.operations import Answer

NEARNESS = 16 * 2.0**-23
"""How far a site's own first weights may lie from those sent, in parts of a tensor's largest.

Processors may differ in the last bits of a random number that is computed from others.
"""
WITNESSES = 2
"""Other sites whose signatures a site needs for weights that it cannot work out."""
MOST_MEMORIES = 4
"""Vectors that a server optimiser may remember."""


class GlobalWeights:
    """Decides which global weights a site takes, whatever a coordinator sends.

    Weights of round 0 follow from the settings and the seed. Later ones follow from those before
    and the mean that the ring's initiator has signed. A site that was away takes weights that two
    others have signed.

    Args:
        state: of the site.
        ledger: of the site in this run.
    """

    def __init__(self, state: LocalState, ledger: Ledger) -> None:
        self.state = state
        self.ledger = ledger
        length = state.layout.length
        self._weights = BlockReceiver("weights", (1 + MOST_MEMORIES) * length, state.store)
        self._means = BlockReceiver("mean", length, state.store)

    def load(self, message: Message) -> Answer:
        """Receive weights, and behind them what the server optimiser remembers.

        Raises:
            MessageError: nothing shows that these are the weights of the round.
        """
        if message.round > self.state.setup.rounds:
            raise MessageError(
                f"Weights of round {message.round}, but the run has {self.state.setup.rounds}."
            )
        vector = self._weights.receive(message)
        if vector is None:
            return Answer({}, {})
        weights, memory = self._parts(vector, message.info.get("server", []))
        fingerprint = Fingerprint(vector_digest(weights), str(message.info.get("memory", "")))
        if memory and digest_of_memory(memory) != fingerprint.server:
            raise MessageError("What the server optimiser remembers is not what `memory` digests.")
        if self.ledger.fingerprint(message.round) is None:
            self._check_unknown(message, weights, fingerprint)
        return self._take(message.round, weights, memory, fingerprint)

    def apply(self, message: Message) -> Answer:
        """Receive the mean of a round and apply it; a net that shares nothing has none.

        Raises:
            MessageError: the site has not got the weights of the round before, or nothing shows
                that this is the mean of the sites.
        """
        round_, setup = message.round, self.state.setup
        before = self.ledger.fingerprint(round_ - 1)
        if before is None or not 1 <= round_ <= setup.rounds:
            raise MessageError(
                f"Site {self.state.name!r} has not got the weights of round {round_ - 1}, to which "
                f"a mean of round {round_} could be applied in a run of {setup.rounds} rounds."
            )
        weights, memory = self._stored(round_ - 1)
        if digest_of_memory(memory) != before.server:
            raise MessageError(
                f"Site {self.state.name!r} has not got what the server optimiser remembers of "
                f"round {round_ - 1}; load it with the weights."
            )
        if self.state.layout.length == 0:
            return self._take(round_, weights, memory, before)
        mean = self._means.receive(message)
        if mean is None:
            return Answer({}, {})
        share, proof = message.info.get("share"), message.info.get("proof")
        if type(share) is not float or not isinstance(proof, dict):
            raise MessageError(f"Expected a share and a proof, but got {share!r} and {proof!r}.")
        digest = vector_digest(mean)
        norm = float(mean.double().norm())
        outcome = Outcome(setup.run, round_, before.weights, digest, norm, share, proof)
        setup.aggregator.check_mean(self.state, outcome)
        global_round = GlobalRound(round_, self.state.layout, share, memory)
        weights, memory = setup.algorithm.apply_mean(weights, mean, global_round)
        weights = setup.repair(weights)
        fingerprint = Fingerprint(vector_digest(weights), digest_of_memory(memory))
        return self._take(round_, weights, memory, fingerprint)

    def _parts(self, vector: Tensor, names: Any) -> tuple[Tensor, State]:
        """Cut what arrived into the weights and the named vectors behind them."""
        length = self.state.layout.length
        if not isinstance(names, list) or not all(type(name) is str for name in names):
            raise MessageError(f"Expected the names of server vectors, but got {names!r}.")
        if len(vector) != length * (1 + len(names)):
            raise MessageError(
                f"Expected {length} values for each of {1 + len(names)} vectors, but got "
                f"{len(vector)}."
            )
        parts = vector.reshape(1 + len(names), length)
        return parts[0], dict(zip(names, parts[1:], strict=True))

    def _stored(self, round_: int) -> tuple[Tensor, State]:
        """Return the weights of a round, and what the server optimiser remembers of it."""
        store = self.state.store
        try:
            return store.weights(round_), store.server()
        except (ValueError, FileNotFoundError) as error:
            raise MessageError(f"Send the weights of round {round_} first: {error}") from error

    def _check_unknown(self, message: Message, weights: Tensor, fingerprint: Fingerprint) -> None:
        """Refuse weights that the site has not worked out and that nobody vouches for."""
        setup = self.state.setup
        if message.round == 0:
            self._check_first(weights, fingerprint.weights)
        elif setup.aggregator.verifies or setup.terms.verified:
            witnesses = self._witnesses(message, fingerprint)
            if len(witnesses) < WITNESSES:
                raise MessageError(
                    f"Site {self.state.name!r} takes weights that it has not worked out if "
                    f"{WITNESSES} other sites have signed them, but got {len(witnesses)} "
                    f"signatures that fit, of {witnesses}."
                )

    def _check_first(self, weights: Tensor, digest: str) -> None:
        """Refuse first weights that do not follow from the settings, unless they are approved."""
        setup = self.state.setup
        if digest in setup.terms.first_weights:
            return
        own = from_vector(to_vector(setup.template.state_dict(), setup.layout), setup.layout)
        for name, sent in from_vector(weights, setup.layout).items():
            reach = NEARNESS * own[name].abs().amax() if sent.numel() else torch.zeros(())
            if bool(((sent - own[name]).abs() > reach).any()):
                raise MessageError(
                    f"The first weights, of digest {digest}, are not those of the settings and the "
                    f"seed: {name!r} differs. Where a run begins with `init`, each hospital lists "
                    "the digest under `init` in its file once it has approved the weights. "
                    "Otherwise versions or settings differ."
                )

    def _witnesses(self, message: Message, fingerprint: Fingerprint) -> list[str]:
        """Return the other sites that have signed these weights."""
        attested = message.info.get("attested")
        if not isinstance(attested, dict):
            return []
        witnesses = []
        for site, signed in sorted(attested.items()):
            statement = attestation(self.state.setup.run, message.round, fingerprint)
            try:
                self.state.setup.aggregator.check_signature(site, statement, signed)
            except MessageError:
                continue
            if site != self.state.name:
                witnesses.append(site)
        return witnesses

    def _take(
        self, round_: int, weights: Tensor, memory: State, fingerprint: Fingerprint
    ) -> Answer:
        """Keep weights as those of a round, and sign that the site has done so."""
        self.ledger.accept(round_, fingerprint)
        self.state.store.save_weights(round_, weights, memory)
        setup = self.state.setup
        statement = attestation(setup.run, round_, fingerprint)
        signed = setup.aggregator.sign(self.state.name, statement)
        return Answer({"weights": fingerprint.weights, **signed}, {})


def attestation(run: str, round_: int, fingerprint: Fingerprint) -> Sequence[Any]:
    """Return what a site signs of the weights that it has accepted."""
    return ("weights", run, round_, *fingerprint)
