"""Put a vector together that arrives in blocks."""

import torch
from torch import Tensor

from lightning_fl.site.store import SiteStore
from lightning_fl.wire.messages import Message, MessageError


class BlockReceiver:
    """Receives one vector of float32 values at a time; blocks wait in files.

    Args:
        name: of the tensor in each message.
        longest: the most values of a vector.
        store: of the site.
    """

    def __init__(self, name: str, longest: int, store: SiteStore) -> None:
        self.name = name
        self.longest = max(1, longest)
        self.store = store
        self._round = self._received = 0

    def receive(self, message: Message) -> Tensor | None:
        """Take a block; `blocks` in the message says how many there are.

        Returns:
            The vector once its last block is there; None before.

        Raises:
            MessageError: the block is not the next one, or holds other than finite float32 values.
        """
        blocks, block = self._checked(message)
        if message.step == 0:
            self._round, self._received = message.round, 0
        if (message.round, message.step) != (self._round, self._received):
            raise MessageError(
                f"Expected block {self._received} of the {self.name} of round {self._round}, but "
                f"got {message.step} of round {message.round}; send them from block 0 again."
            )
        if blocks > 1:  # kept in files, so that memory does not grow with the sites
            self.store.save_block(message.step, block)
        self._received += 1
        if self._received < blocks:
            return None
        return self.store.join_blocks(blocks) if blocks > 1 else block

    def _checked(self, message: Message) -> tuple[int, Tensor]:
        """Return how many blocks there are, and this one."""
        blocks, block = message.info.get("blocks"), message.tensors.get(self.name)
        if type(blocks) is not int or not 1 <= blocks <= self.longest:
            raise MessageError(
                f"Expected {self.name} in 1 to {self.longest} blocks, but got {blocks!r}."
            )
        if set(message.tensors) != {self.name} or block is None:
            raise MessageError(
                f"Expected one tensor `{self.name}`, but got {sorted(message.tensors)}."
            )
        if block.dtype != torch.float32 or block.dim() != 1 or len(block) > self.longest:
            raise MessageError(
                f"Expected up to {self.longest} float32 values in a row, but got {block.dtype} of "
                f"shape {tuple(block.shape)}."
            )
        if not bool(torch.isfinite(block).all()):
            raise MessageError(f"Block {message.step} of the {self.name} holds NaN or infinity.")
        return blocks, block
