"""Cross-entropy of classes, with a weight for each class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_fl.errors import ConfigError


class LabelCrossEntropy(nn.Module):
    """Cross-entropy of logits (B, classes); one channel of logits is a binary task.

    With weights the mean over a batch is `sum_i w(y_i) l_i / sum_i w(y_i)`.

    Args:
        class_weights: one for each class (two for a binary task), or None for equal ones.
        classes: channels of the logits.

    Raises:
        ConfigError: there are not as many weights as classes, or one is not positive.
    """

    weight: Tensor | None

    def __init__(self, classes: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        count, weight = max(classes, 2), None
        if class_weights is not None:
            if len(class_weights) != count or not all(weight > 0 for weight in class_weights):
                raise ConfigError(
                    f"Expected `class_weights` to be {count} positive numbers, one for each class, "
                    f"but got {list(class_weights)}."
                )
            weight = torch.tensor(class_weights, dtype=torch.float32)
        # Not in the state: a federation would average it with the weights of the net.
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, classes) and class numbers (B,), a scalar."""
        if logits.shape[1] == 1:  # the softmax of (0, z) is the sigmoid of z
            logits = F.pad(logits, (1, 0))
        weight = None if self.weight is None else self.weight.to(logits)
        return F.cross_entropy(logits, labels, weight)
