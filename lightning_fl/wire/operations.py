"""Answer the operations of a site: which messages it takes, and the frame around its answers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from lightning_fl.wire.messages import COORDINATOR, Message, MessageError


class Answer(NamedTuple):
    """Hold what a site's operation gives back.

    Attributes:
        info: small facts. Under "seconds" an operation may name what its parts took; they become
            rows of costs.csv, and the operation's own row holds the rest, so sums stay right.
        tensors: by name.
        recipient: the party that the answer is for.
        context: fingerprint of a ring's encryption context.
    """

    info: dict[str, Any]
    tensors: dict[str, Tensor]
    recipient: str = COORDINATOR
    context: str = ""


def fixed_width(seconds: float) -> str:
    """Return seconds as a text of one width, so that equal runs send equally many bytes."""
    return f"{seconds:013.6f}"


SiteOperation = Callable[[Message], Answer]


def handle_message(
    site: str, run: str, operations: Mapping[str, SiteOperation], op: str, payload: bytes
) -> bytes:
    """Return a site's encoded answer to an encoded message.

    Args:
        site: name of the site.
        run: the run that it takes part in.
        operations: what the site can do, by name.
        op: the operation that is asked for.
        payload: the encoded message.

    Raises:
        MessageError: the payload is damaged, of another run, or for another site, or the operation
            is unknown.
    """
    message = Message.decode(payload)
    if message.run != run:
        raise MessageError(
            f"Site {site!r} takes part in run {run!r}, but the message belongs to {message.run!r}."
        )
    if op not in operations:
        raise MessageError(
            f"Site {site!r} knows no operation {op!r}; it knows {sorted(operations)}."
        )
    if message.recipient not in ("", site):
        raise MessageError(f"A message for {message.recipient!r} reached site {site!r} instead.")
    answer = operations[op](message)
    return Message(
        run=run,
        round=message.round,
        sender=site,
        step=message.step,
        info=answer.info,
        tensors=answer.tensors,
        recipient=answer.recipient,
        ring=message.ring,
        context=answer.context,
    ).encode()
