"""What the attacker knows or guesses beside the image: a label or a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Draw = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers of some shape, from the attack's own generator."""


class Target(Protocol):
    """The labels or masks that belong to guessed images."""

    @property
    def key(self) -> str:
        """Its name in a batch."""
        ...

    def start(self, images: int, draw: Draw) -> Tensor | None:
        """Logits to begin with, one for each image, or None where nothing is to be found."""
        ...

    def soft(self, logits: Tensor | None) -> Tensor:
        """What a batch holds, differentiable in the logits."""
        ...

    def decided(self, logits: Tensor | None) -> Tensor:
        """Class numbers, int64."""
        ...


@dataclass(frozen=True)
class Known:
    """Labels (B,) or masks (B, H, W) that the attacker knows.

    Attributes:
        key: "label" or "mask".
        value: class numbers.
    """

    key: str
    value: Tensor

    def start(self, images: int, draw: Draw) -> None:
        """Nothing is to be found."""

    def soft(self, logits: Tensor | None) -> Tensor:
        """The class numbers as they are."""
        return self.value

    def decided(self, logits: Tensor | None) -> Tensor:
        """The class numbers as they are."""
        return self.value


@dataclass(frozen=True)
class HiddenLabel:
    """Labels that are found together with the images; the loss must take soft labels.

    Torch's CrossEntropyLoss takes (B, classes), BCEWithLogitsLoss (B, 1).

    Attributes:
        classes: number of classes; 1 for a net with one output (sigmoid).
        key: name in a batch.
    """

    classes: int
    key: str = "label"

    def start(self, images: int, draw: Draw) -> Tensor:
        """Logits (B, classes)."""
        return draw((images, self.classes))

    def soft(self, logits: Tensor | None) -> Tensor:
        """Probabilities (B, classes)."""
        found = _present(logits)
        return found.sigmoid() if self.classes == 1 else found.softmax(dim=1)

    def decided(self, logits: Tensor | None) -> Tensor:
        """Labels, int64 (B,)."""
        found = _present(logits)
        return (found[:, 0] > 0).long() if self.classes == 1 else found.argmax(dim=1)


@dataclass(frozen=True)
class HiddenMask:
    """Masks of foreground and background that are found together with the images.

    The loss must take soft masks (B, H, W), as models.DiceCrossEntropy does for one class.

    Attributes:
        size: height and width in pixels.
        key: name in a batch.
    """

    size: tuple[int, int]
    key: str = "mask"

    def start(self, images: int, draw: Draw) -> Tensor:
        """Logits (B, H, W)."""
        return draw((images, *self.size))

    def soft(self, logits: Tensor | None) -> Tensor:
        """Probabilities of foreground (B, H, W)."""
        return _present(logits).sigmoid()

    def decided(self, logits: Tensor | None) -> Tensor:
        """Masks, int64 (B, H, W)."""
        return (_present(logits) > 0).to(torch.int64)


def _present(logits: Tensor | None) -> Tensor:
    if logits is None:
        raise RuntimeError("A hidden target has logits; `start` gives the first ones.")
    return logits
