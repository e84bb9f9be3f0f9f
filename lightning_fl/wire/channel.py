"""Ask sites in the run's frame, write down what it costs, and tell the monitor."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from lightning_fl.errors import SiteError
from lightning_fl.wire.messages import COORDINATOR, Message, MessageError, digest_of
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.records import CostRow, TranscriptRow
from lightning_fl.wire.transport import Reply, Transport

READERS = 4
"""Threads that check answers."""


class Channel:
    """Carries the messages of the federation and of the aggregators.

    Args:
        transport: the engine's.
        run: identifier of the run; sites refuse messages of another one.
        timeout: seconds after which a site counts as late.
        on_cost: receives one row for each answered operation, and one for each part of it that
            the answer names under "seconds".
        on_message: receives one row for each message that crossed a site's boundary.
        monitor: hears of each answer.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        run: str,
        timeout: float,
        on_cost: Callable[[CostRow], None],
        on_message: Callable[[TranscriptRow], None],
        monitor: Monitor,
    ) -> None:
        self.transport = transport
        self.run = run
        self.timeout = timeout
        self.on_cost = on_cost
        self.on_message = on_message
        self.monitor = monitor
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")

    def message(self, round_: int, **fields: object) -> Message:
        """Make a message of this run from the coordinator."""
        return Message(run=self.run, round=round_, sender=COORDINATOR, **fields)  # type: ignore[arg-type]

    def ask(self, op: str, messages: Mapping[str, Message]) -> dict[str, Message | SiteError]:
        """Send each site its message.

        Returns:
            Each site's answer, or the SiteError that says why there is none, in sorted order.
        """
        # a message that goes to many sites is encoded once, or memory would grow with the sites
        distinct = {id(message): message for message in messages.values()}
        encoded = {key: message.encode() for key, message in distinct.items()}
        payloads = {site: encoded[id(message)] for site, message in sorted(messages.items())}

        def on_reply(site: str, reply: Reply | SiteError) -> None:
            seconds = reply.seconds if isinstance(reply, Reply) else 0.0
            self.monitor.on_site_done(site=site, operation=op, seconds=seconds)

        replies = self.transport.map(op, payloads, timeout=self.timeout, on_reply=on_reply)
        # digests of many blocks are checked at once: hashing is most of a coordinator's work
        read = self._readers.map(
            lambda site: self._answer(site, op, messages[site], replies[site]), payloads
        )
        answers = dict(zip(payloads, read, strict=True))
        for site, answer in answers.items():
            self._write_down(site, op, messages[site], payloads[site], 0.0)
            reply = replies[site]
            if isinstance(reply, Reply) and isinstance(answer, Message):
                self._write_down(site, op, answer, reply.payload, reply.seconds)
                self._meter(site, op, answer, len(payloads[site]), reply)
        return answers

    def ask_all(self, op: str, messages: Mapping[str, Message]) -> dict[str, Message]:
        """Send each site its message; every site must answer.

        Raises:
            SiteError: of the first site that did not answer.
        """
        answers: dict[str, Message] = {}
        for site, answer in self.ask(op, messages).items():
            if isinstance(answer, SiteError):
                raise answer
            answers[site] = answer
        return answers

    def _write_down(
        self, site: str, op: str, message: Message, payload: bytes, seconds: float
    ) -> None:
        self.on_message(
            TranscriptRow(
                round=message.round,
                ring=message.ring,
                step=message.step,
                operation=op,
                site=site,
                direction="out" if message.sender == site else "in",
                sender=message.sender,
                recipient=message.recipient,
                bytes=len(payload),
                digest=digest_of(payload),
                seconds=seconds,
            )
        )

    def _meter(self, site: str, op: str, answer: Message, down: int, reply: Reply) -> None:
        """Hand over the costs of an operation: its parts in rows of their own, then the rest."""
        parts = _seconds_of_parts(answer, reply.seconds)
        for part, seconds in parts.items():
            self.on_cost(CostRow(answer.round, site, f"{op}: {part}", 0, 0, seconds))
        rest = reply.seconds - math.fsum(parts.values())
        self.on_cost(CostRow(answer.round, site, op, len(reply.payload), down, max(rest, 0.0)))

    def _answer(
        self, site: str, op: str, question: Message, reply: Reply | SiteError
    ) -> Message | SiteError:
        """Return the answer; a damaged one, or one to something else, is a site's failure too."""
        if isinstance(reply, SiteError):
            return reply
        try:
            answer = Message.decode(reply.payload)
        except MessageError as error:
            return SiteError(site, op, "garbled", str(error))
        expected = (site, self.run, question.round, question.ring, question.step)
        actual = (answer.sender, answer.run, answer.round, answer.ring, answer.step)
        if actual != expected:
            detail = f"answered as (site, run, round, ring, step) {actual} instead of {expected}"
            return SiteError(site, op, "garbled", detail)
        return answer


def _seconds_of_parts(answer: Message, elapsed: float) -> dict[str, float]:
    """Return the seconds that the site gives for parts of an operation; {} if they cannot be."""
    try:
        parts = {str(part): float(s) for part, s in answer.info.get("seconds", {}).items()}
    except (AttributeError, TypeError, ValueError, OverflowError):
        return {}
    return parts if all(0 <= s <= elapsed + 1e-6 for s in parts.values()) else {}
