"""Give every site the global weights of a round, or the mean that leads to them."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_fl.coordinator.checkpoint import Attested, RunState
from lightning_fl.errors import SiteError
from lightning_fl.training.layout import digest_of_memory, vector_digest
from lightning_fl.wire.channel import Channel
from lightning_fl.wire.messages import BLOCK_BYTES, Message


class Broadcast:
    """Sends means to sites that have the weights of the round before, and weights to the others.

    Args:
        channel: to the sites.

    Attributes:
        standing: the round whose weights each site has, as far as it has answered.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.standing: dict[str, int] = {}

    def apply(
        self,
        state: RunState,
        mean: Tensor | None,
        outcome: Mapping[str, Any],
        sites: Collection[str],
    ) -> None:
        """Let sites make the present weights of those before.

        Args:
            state: after the round.
            mean: of the round; None where nothing is shared.
            outcome: what sites are told of it.
            sites: those that shall have the weights.
        """
        ready = [site for site in sites if self.standing.get(site) == state.round - 1]
        tensors = {} if mean is None else {"mean": mean}
        _attest(state, self._send(state, "apply", state.round, ready, tensors, outcome))
        self.load(state, {s: state.round for s in sites if s not in ready})

    def load(self, state: RunState, rounds: Mapping[str, int], *, best: bool = False) -> None:
        """Send whole weights: those of `state`, or the best ones.

        Args:
            state: of the run.
            rounds: by site the round that its message names.
            best: send the best weights, without what goes on from them.
        """
        weights = state.best_weights if best else state.weights
        server = {} if best else state.server
        vector = torch.cat([weights, *(server[name] for name in sorted(server))])
        for round_ in sorted(set(rounds.values())):
            vouched = state.attested.get(str(round_), Attested(digest_of_memory(server)))
            info = {"server": sorted(server), "memory": vouched.memory}
            chosen = [site for site, r in rounds.items() if r == round_]
            # a site that has had the weights of each round knows those of this one
            known = [site for site in chosen if self.standing.get(site, -1) >= round_]
            others = [site for site in chosen if site not in known]
            for sites, attested in ((known, {}), (others, vouched.signed)):
                facts, tensors = {**info, "attested": attested}, {"weights": vector}
                answers = self._send(state, "load", round_, sites, tensors, facts, weights)
                if not best:
                    _attest(state, answers)

    def _send(
        self,
        state: RunState,
        operation: str,
        round_: int,
        sites: Collection[str],
        tensors: Mapping[str, Tensor],
        info: Mapping[str, Any],
        weights: Tensor | None = None,
    ) -> dict[str, Message]:
        """Send a vector, or none, in blocks; return the answers of sites that have the weights.

        Args:
            state: of the run.
            operation: `apply` or `load`.
            round_: that the messages name.
            sites: to send to.
            tensors: the one vector by its name; {} for none.
            info: of each message.
            weights: that the sites shall have then; None for those of `state`.
        """
        if not sites:
            return {}
        digest = vector_digest(state.weights if weights is None else weights)
        blocks = [
            {name: block}
            for name, vector in tensors.items()
            for block in torch.split(vector, BLOCK_BYTES // 4) or (vector,)
        ] or [{}]
        self.channel.monitor.on_operation(
            round_=state.round, operation=operation, total=len(blocks) * len(sites), unit="blocks"
        )
        facts = {"blocks": len(blocks), **info}
        left: Collection[str] = sites
        for step, block in enumerate(blocks):
            copied = {
                name: values.clone() for name, values in block.items()
            }  # not all it is cut of
            message = self.channel.message(round_, step=step, info=facts, tensors=copied)
            answers = self.channel.ask(operation, dict.fromkeys(left, message))
            if step == len(blocks) - 1:
                answers = {s: _checked(s, operation, a, digest) for s, a in answers.items()}
            left = kept = self.survivors(state, answers, operation)
        self.standing |= dict.fromkeys(kept, round_)
        return kept

    def survivors(
        self, state: RunState, answers: Mapping[str, Message | SiteError], operation: str
    ) -> dict[str, Message]:
        """Return the sites that answered.

        A site that fails is a value and not an exception, so one lost site does not discard the
        answers of the others. It is written down in `dropped`, and the round goes on.
        """
        kept: dict[str, Message] = {}
        for site, answer in answers.items():
            if not isinstance(answer, SiteError):
                kept[site] = answer
                continue
            round_ = state.round + (operation in ("train", "aggregate"))
            reason = f"{site}: {answer.detail}"
            entry = {"round": round_, "site": site, "operation": operation, "reason": reason}
            state.dropped.append(entry)
            self.channel.monitor.on_site_lost(round_=round_, site=site, reason=answer.detail)
        return kept


def _attest(state: RunState, answers: Mapping[str, Message]) -> None:
    """Keep the sites' signatures under the present weights."""
    signed = {
        site: {"signature": answer.info["signature"]}
        for site, answer in answers.items()
        if "signature" in answer.info
    }
    state.attest(digest_of_memory(state.server), signed)


def _checked(
    site: str, operation: str, answer: Message | SiteError, digest: str
) -> Message | SiteError:
    """Return an answer, or that the site has come to other weights than the coordinator."""
    if isinstance(answer, SiteError) or answer.info.get("weights") == digest:
        return answer
    detail = (
        f"has the weights {str(answer.info.get('weights'))[:16]}..., but the coordinator has "
        f"{digest[:16]}...; another processor may round a server optimiser otherwise"
    )
    return SiteError(site, operation, "garbled", detail)
