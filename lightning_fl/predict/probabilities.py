"""What a model makes of a whole scan; evaluation and prediction both come here."""

from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.scans import Scan
from lightning_fl.errors import ConfigError
from lightning_fl.training.fitting import TrainerOptions, make_trainer


class _Probabilities(pl.LightningModule):
    """Gives a task's probabilities in `Trainer.predict`, on its device and in its precision."""

    def __init__(self, task: pl.LightningModule) -> None:
        super().__init__()
        self.task = task
        self.to_probabilities, _ = task.output_maps()  # type: ignore[operator]

    def predict_step(self, images: Tensor, batch_idx: int = 0) -> Tensor:
        probabilities: Tensor = self.to_probabilities(self.task(images))
        return probabilities.cpu()


def check_probabilities(task: pl.LightningModule) -> None:
    """Refuse a task that does not say how its outputs become probabilities.

    Raises:
        ConfigError: it has no method `output_maps`.
    """
    if not callable(getattr(task, "output_maps", None)):
        raise ConfigError(
            f"Whole scans need probabilities, but {type(task).__name__} does not say how its "
            "outputs become some: it has no method `output_maps()` giving that function and its "
            "inverse. Add it, or use models.Segmentation or models.Classification."
        )


def probabilities(
    module: pl.LightningModule, scan: Scan, batch_size: int, options: TrainerOptions
) -> list[Tensor]:
    """A model's probabilities of all images of a scan.

    Args:
        module: a task with `output_maps`; is not changed.
        scan: the scan.
        batch_size: images at a time. The last bits of a result may depend on it.
        options: of the run's Trainer.

    Returns:
        One tensor a batch, in the order of the scan's images.
    """
    loader: DataLoader[Any] = DataLoader(scan.images(), batch_size=batch_size)
    found: Any = make_trainer(options).predict(_Probabilities(module), loader)
    return list(found)
