"""The labels or masks that belong to guessed images: known to the attacker, or guessed too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

Draw = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers of some shape, from the attack's own generator."""


@dataclass(frozen=True)
class Known:
    """Labels (B,) or masks (B, H, W) that the attacker knows.

    Attributes:
        key: name in a batch, "label" or "mask".
        value: class numbers.
    """

    key: str
    value: Tensor

    def start(self, images: int, draw: Draw) -> Tensor:
        """Draw no logits."""
        return draw((0,))

    def soft(self, logits: Tensor) -> Tensor:
        """Return the class numbers as they are."""
        return self.value

    decided = soft


@dataclass(frozen=True)
class HiddenLabel:
    """Labels that are guessed together with the images; the loss must take soft labels.

    Torch's CrossEntropyLoss takes (B, classes), BCEWithLogitsLoss (B, 1).

    Attributes:
        classes: number of classes; 1 for a net with one output (sigmoid).
    """

    classes: int
    key: ClassVar[str] = "label"

    def start(self, images: int, draw: Draw) -> Tensor:
        """Draw first logits (B, classes)."""
        return draw((images, self.classes))

    def soft(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, classes), differentiable in the logits."""
        return logits.sigmoid() if self.classes == 1 else logits.softmax(dim=1)

    def decided(self, logits: Tensor) -> Tensor:
        """Return labels, int64 (B,)."""
        return (logits[:, 0] > 0).long() if self.classes == 1 else logits.argmax(dim=1)


@dataclass(frozen=True)
class HiddenMask:
    """Masks of foreground and background that are guessed together with the images.

    The loss must take soft masks (B, H, W), as models.DiceCrossEntropy does for one class.

    Attributes:
        size: height and width in pixels.
    """

    size: tuple[int, int]
    key: ClassVar[str] = "mask"

    def start(self, images: int, draw: Draw) -> Tensor:
        """Draw first logits (B, H, W)."""
        return draw((images, *self.size))

    def soft(self, logits: Tensor) -> Tensor:
        """Return probabilities of foreground (B, H, W), differentiable in the logits."""
        return logits.sigmoid()

    def decided(self, logits: Tensor) -> Tensor:
        """Return masks, int64 (B, H, W)."""
        return (logits > 0).long()


Target = Known | HiddenLabel | HiddenMask
