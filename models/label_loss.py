"""Cross-entropy of classes, with a weight for each class, and of several labels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from models.losses import mean_of_counted


class LabelCrossEntropy(nn.Module):
    """Cross-entropy of logits (B, classes); one channel of logits is a binary task.

    With weights the mean over a batch is `sum_i w(y_i) l_i / sum_i w(y_i)`. Several labels have a
    binary cross-entropy each, with the weight `w` for 1 and 1 for 0. Its mean is that over images
    of the mean over the labels that are there; an image without any adds 0.

    Args:
        classes: channels of the logits.
        class_weights: one for each class (two for a binary task) or label, or None for equal ones.
        multilabel: whether there are several labels.

    Raises:
        ConfigError: there are not as many weights as classes, or one is not positive.
    """

    weight: Tensor | None

    def __init__(
        self,
        classes: int,
        class_weights: Sequence[float] | None = None,
        *,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.multilabel = multilabel
        count, weight = classes if multilabel else max(classes, 2), None
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
        """Return the loss, a scalar, of logits (B, classes).

        The labels are class numbers (B,), or 0, 1 and NaN for missing ones (B, classes).
        """
        weight = None if self.weight is None else self.weight.to(logits)
        if self.multilabel:
            there = ~labels.isnan()
            truth = labels.where(there, 0).to(logits)
            losses = F.binary_cross_entropy_with_logits(
                logits, truth, pos_weight=weight, reduction="none"
            )
            return mean_of_counted(losses, there)
        if logits.shape[1] == 1:  # the softmax of (0, z) is the sigmoid of z
            logits = F.pad(logits, (1, 0))
        return F.cross_entropy(logits, labels, weight)
