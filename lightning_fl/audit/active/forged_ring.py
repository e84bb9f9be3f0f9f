"""A ring whose coordinator gives the initiator a sum of its own to decrypt and to sign."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lightning_fl.aggregation.ring.byte_tensors import as_bytes, as_tensor
from lightning_fl.aggregation.ring.ckks import RingContext
from lightning_fl.aggregation.ring.fixed_point import to_limbs
from lightning_fl.aggregation.ring.packing import pack, to_reals
from lightning_fl.aggregation.ring.ring import Ring
from lightning_fl.wire.messages import Message

NOTHING = torch.zeros(0)


@dataclass
class ForgedRing(Ring):
    """Ask the sites of a ring, and replace what the initiator decrypts.

    All that it takes is public: the parameters and the public key.

    Attributes:
        mean: that the initiator shall sign, shape (length,).
    """

    mean: Tensor = field(default=NOTHING)

    def _ask(self, op: str, messages: Mapping[str, Message]) -> dict[str, Message]:
        if op == "ring_close":
            messages = {
                site: replace(message, tensors={"block": self._block(message.step)}, payload=None)
                for site, message in messages.items()
            }
        answers = super()._ask(op, messages)
        if op == "ring_open":
            [answer] = answers.values()
            public_key = bytes(as_bytes(answer.tensors["public_key"]))
            self._context = RingContext(self.plan.parameters, public_key)
        return answers

    def _block(self, step: int) -> Tensor:
        """Return a block to which every site has added the mean, with equal weights."""
        values = np.rint(self.mean.double().numpy() / self.plan.grid.steps(0, 1)[0])
        counts = [to_limbs(int(name == "sites")) for name in self.plan.counts]
        start, stop = self.plan.span(step)
        integers = np.concatenate([values.astype(np.int64), *counts])[start:stop]
        reals = to_reals(pack(integers, self.plan.parameters), 0, self.plan.parameters)
        total = self._context.encrypt(reals)
        for _ in self.order[1:]:
            self._context.add(total, self._context.encrypt(reals))
        return as_tensor(self._context.to_bytes(total))
