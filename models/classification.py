"""Classification of images or volumes with any network, as a LightningModule."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MetricCollection

from lightning_fl.data.module import LabelledSample
from lightning_fl.errors import ConfigError
from models.checks import try_net
from models.classification_metrics import classification_scores
from models.evaluation_mode import evaluation_mode
from models.label_checks import check_labels, checked_class_logits
from models.label_loss import LabelCrossEntropy
from models.outputs import fine
from models.task import NetTask


class Classification(NetTask):
    """Trains and scores a net that maps images (B, C, ...) to logits (B, classes).

    Batches are dicts of `image`, float32 (B, C, H, W) or (B, C, D, H, W), and `label`, int64 (B,).
    It logs "train/loss", "val/loss", "test/loss" and, for validation and test, auroc, accuracy, f1,
    balanced_accuracy, sensitivity, specificity and ece (calibration error), each over all cases of
    the split. With two classes class 1 is the disease, with more they are means over classes. A
    score that a split does not define, such as AUROC where all are healthy, is NaN, and is then
    left out of means over sites. AUROC on few validation patients moves in large steps: with three
    diseased and three healthy ones there are ten values it can take.

    Args:
        net: any classification network, e.g. of MONAI, with one output tensor.
        classes: channels of the logits: the number of classes (softmax), or 1 for a binary task by
            sigmoid.
        class_weights: of the loss, one for each class, e.g. larger for a rare one; null for none.
        loss: called with logits and labels, gives a scalar; null is the cross-entropy.
        optimizer: class of the optimiser with its settings, without its parameters; null is
            torch.optim.Adam with a learning rate of 1e-3.
        lr_scheduler: class of a learning-rate scheduler with its settings, without its optimiser.
        scheduler_interval: whether the scheduler steps after each training step or each epoch.

    Raises:
        ConfigError: a setting is out of its range, or there is a loss as well as class weights.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int = 2,
        class_weights: Sequence[float] | None = None,
        loss: nn.Module | None = None,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        scheduler_interval: Literal["step", "epoch"] = "step",
    ) -> None:
        if loss is None:
            loss = LabelCrossEntropy(classes, class_weights)
        elif class_weights is not None:
            raise ConfigError(
                "`class_weights` belong to the cross-entropy, but there is another `loss`. Set one "
                "of the two to null, and give the loss its weights itself."
            )
        super().__init__(net, classes, loss, optimizer, lr_scheduler, scheduler_interval)
        self.val_scores = classification_scores(max(classes, 2), "val/")
        self.test_scores = classification_scores(max(classes, 2), "test/")

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, ...), in float32 or finer."""
        return fine(checked_class_logits(self.net(image), self.classes))

    def training_step(self, batch: LabelledSample, batch_idx: int = 0) -> Tensor:
        """The loss of a batch; its labels are checked in the first batch of an epoch only."""
        if batch_idx == 0:
            check_labels(batch["label"], batch["image"], self.classes)
        loss: Tensor = self.loss(self(batch["image"]), batch["label"])
        self.log_loss("train/loss", loss, len(batch["label"]))
        return loss

    def validation_step(self, batch: LabelledSample, batch_idx: int) -> None:
        """Add a batch to the scores "val/..."."""
        self._evaluate(batch, "val/loss", self.val_scores)

    def test_step(self, batch: LabelledSample, batch_idx: int) -> None:
        """Add a batch to the scores "test/..."."""
        self._evaluate(batch, "test/loss", self.test_scores)

    def predict_step(self, batch: LabelledSample, batch_idx: int = 0) -> Tensor:
        """The probabilities of each image, float32 (B, classes)."""
        to_probabilities, _ = self.output_maps()
        return to_probabilities(self(batch["image"]))

    def check_batch(self, batch: LabelledSample) -> None:
        """Try a batch without training on it; meant for the start of a run.

        Raises:
            ConfigError: net, images and labels do not fit together.
            DataError: a label is no class.
        """
        check_labels(batch["label"], batch["image"], self.classes)
        with evaluation_mode(self.net):
            try_net(self.net, batch["image"])
            self.loss(self(batch["image"]), batch["label"])

    def _evaluate(self, batch: LabelledSample, loss_name: str, scores: MetricCollection) -> None:
        check_labels(batch["label"], batch["image"], self.classes)
        logits = self(batch["image"])
        loss: Tensor = self.loss(logits, batch["label"])
        scores.update(self._class_probabilities(logits), batch["label"])
        self.log_loss(loss_name, loss, len(batch["label"]))
        self.log_dict(scores, on_step=False, on_epoch=True, batch_size=len(batch["label"]))

    def _class_probabilities(self, logits: Tensor) -> Tensor:
        """One probability for every class, for the binary task too."""
        to_probabilities, _ = self.output_maps()
        found = to_probabilities(logits)
        return torch.cat([1 - found, found], dim=1) if self.classes == 1 else found
