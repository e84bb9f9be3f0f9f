"""Classification of images or volumes with any network, as a LightningModule."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_fl.errors import ConfigError
from models.checks import CLASSIFICATION, check_labels, check_several_labels
from models.classification_metrics import classification_scores, multilabel_scores
from models.label_loss import LabelCrossEntropy
from models.net_task import Batch, NetTask


class Classification(NetTask):
    """Trains and scores a net that maps images (B, C, ...) to logits (B, classes).

    Batches are dicts of `image`, float32 (B, C, H, W) or (B, C, D, H, W), and `label`, int64 (B,).
    It logs "train/loss", "val/loss", "test/loss" and, for validation and test, auroc, accuracy, f1,
    balanced_accuracy, sensitivity, specificity and ece (calibration error). Each score is over all
    cases of the split. With two classes class 1 is the disease, with more they are means over
    classes. Several labels are float32 (B, classes) of 0, 1 and NaN, where one is missing. It then
    logs auroc and average_precision, means over the labels, and those of each label, `auroc/1` and
    so on. A missing label counts neither in the loss nor in a score. A score that a split does not
    define, such as AUROC where all are healthy, is NaN. Means over sites leave it out. AUROC on few
    validation patients moves in large steps: with three diseased and three healthy ones there are
    ten values it can take.

    Args:
        net: any classification network, e.g. of MONAI, with one output tensor.
        classes: channels of the logits: the number of classes (softmax), 1 for a binary task by
            sigmoid, or the number of labels.
        multilabel: whether the classes are labels of which an image may have several (sigmoid).
        class_weights: of the loss, one for each class, e.g. larger for a rare one, or of 1 against
            0 for each label; null for none.
        loss: called with logits and labels, gives a scalar; null is the cross-entropy.
        **kwargs: of the base class: `optimizer`, `lr_scheduler` and `scheduler_interval`.

    Raises:
        ConfigError: a setting is out of its range, or there is a loss as well as class weights.
    """

    truth = "label"
    expected = CLASSIFICATION

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int = 2,
        multilabel: bool = False,
        class_weights: Sequence[float] | None = None,
        loss: nn.Module | None = None,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        if loss is None:
            loss = LabelCrossEntropy(classes, class_weights, multilabel=multilabel)
        elif class_weights is not None:
            raise ConfigError(
                "`class_weights` belong to the cross-entropy, but there is another `loss`. Set one "
                "of the two to null, and give the loss its weights itself."
            )
        if multilabel:
            scores = partial(multilabel_scores, classes)
        else:
            scores = partial(classification_scores, max(classes, 2))
        super().__init__(net, classes, loss, scores, multilabel or classes == 1, **kwargs)
        self.multilabel = multilabel

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the probabilities of each image, float32 (B, classes)."""
        to_probabilities, _ = self.output_maps()
        return to_probabilities(self(batch["image"]))

    def scored(self, logits: Tensor) -> Tensor:
        """Return one probability for every class, for the binary task too, or for every label."""
        to_probabilities, _ = self.output_maps()
        probabilities = to_probabilities(logits)
        if self.multilabel or self.classes > 1:
            return probabilities
        return torch.cat([1 - probabilities, probabilities], dim=1)

    def check_truth(self, batch: Batch) -> None:
        """Raise a ConfigError or DataError for labels that are no classes."""
        check = check_several_labels if self.multilabel else check_labels
        check(batch["label"], batch["image"], self.classes)
