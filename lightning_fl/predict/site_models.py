"""The models of one hospital in a run, and how they segment a scan or a picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.scans import Mask, Picture, Preprocessing, Scan, ScanSource, Volume
from lightning_fl.errors import ConfigError, DataError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.results.volume_tables import ENSEMBLE
from lightning_fl.training.fitting import TrainerOptions, make_trainer
from lightning_fl.training.largest_component import keep_largest_component
from lightning_fl.training.output_maps import output_maps


@dataclass(frozen=True)
class SiteModels:
    """Hold one run's models of one site, and how they look at a scan.

    Attributes:
        direction: the direction that the run's data are cut in.
        models: by name, "global" and "personal".
        preprocessing: of the site.
        batch_size: images at a time. The last bits of a result may depend on it.
        options: of the run.
    """

    direction: str
    models: Mapping[str, pl.LightningModule]
    preprocessing: Preprocessing
    batch_size: int
    options: TrainerOptions

    @cached_property
    def trainer(self) -> pl.Trainer:
        """The trainer that runs the models. Making it takes longer than a small image does."""
        return make_trainer(self.options)

    def read(self, path: ScanSource) -> Volume:
        """Read a scan that can be segmented.

        Raises:
            ConfigError: the preprocessing gives no volumes.
            DataError: the scan cannot be read.
        """
        scan = self.preprocessing.read(path)
        if not isinstance(scan, Volume):
            raise ConfigError(
                f"{type(self.preprocessing).__name__} reads scans that are not segmented; whole "
                "scans need one like datamodules.CTFolder's."
            )
        return scan

    def probabilities(self, model: str, scan: Scan) -> list[Tensor]:
        """Return a model's probabilities of a scan's images, in order, one tensor a batch."""
        to_probabilities, _ = output_maps(self.models[model])
        return self._answers(model, scan, to_probabilities)

    def mask(self, model: str, picture: Picture) -> Mask:
        """Return a model's mask on the pixels of a picture's file.

        The logits are resized before they are decided, as for the scores of an evaluation. Tasks do
        so by a method `resized_masks`, see models.Segmentation.
        """
        resized_masks: Any = self.models[model].resized_masks
        [mask] = self._answers(model, picture, lambda o: resized_masks(o, [picture.size])[0])
        return np.asarray(mask.numpy())

    def _answers(self, model: str, scan: Scan, answer: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return what `answer` makes of the logits of a scan's images, one tensor a batch.

        Raises:
            DataError: the net cannot take images of this size; names the scan.
        """
        loader: DataLoader[Any] = DataLoader(scan.images(), batch_size=self.batch_size)
        task = _Answers(self.models[model], answer)
        try:
            batches: Any = self.trainer.predict(task, loader)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            shape = tuple(scan.images()[0].shape)
            raise DataError(
                f"The model cannot take {scan.name!r}, whose images have the shape {shape}: "
                f"{error} Give files like those of the run, or set `size` in its datamodule."
            ) from error
        return list(batches)


class _Answers(pl.LightningModule):
    """Give what becomes of a task's logits in `Trainer.predict`, on its device and precision."""

    def __init__(self, task: pl.LightningModule, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.task = task
        self.answer = answer

    def predict_step(self, images: Tensor, batch_idx: int = 0) -> Tensor:
        return self.answer(self.task(images)).cpu()


def models_by_direction(
    run: FinishedRun, site: str | None, kinds: Sequence[str], accelerator: str | None = None
) -> list[SiteModels]:
    """Load the models of a site, once for each direction of a run.

    The kinds are "global", "personal" or both. Without a site it is the global model as an outsider
    would get it; without an accelerator the run's own is used.
    """
    return [
        SiteModels(
            member.direction,
            {kind: member.model(site, kind) for kind in kinds},
            member.preprocessing(site),
            member.batch_size,
            member.options(accelerator),
        )
        for member in run.members
    ]


def segment(
    directions: Sequence[SiteModels], path: ScanSource
) -> tuple[Volume, dict[str, dict[str, Mask]]]:
    """Segment one scan by every model from every direction, and by the mean of the directions.

    Returns:
        The scan, and masks by model and direction; "ensemble" is there with two directions or more.

    Raises:
        ConfigError, DataError: see `SiteModels.read`.
    """
    models = directions[0].models
    task = next(iter(models.values()))
    masks: dict[str, dict[str, Mask]] = {name: {} for name in models}
    sums: dict[str, Tensor] = {}
    for site_models in directions:
        volume = site_models.read(path)
        for name in models:
            grid = volume.assemble(site_models.probabilities(name, volume))
            masks[name][site_models.direction] = _decided(volume, grid, task)
            sums[name] = grid if name not in sums else sums[name].add_(grid)
    if len(directions) > 1:
        for name, total in sums.items():
            masks[name][ENSEMBLE] = _decided(volume, total.div_(len(directions)), task)
    return volume, masks


def _decided(volume: Volume, grid: Tensor, task: pl.LightningModule) -> Mask:
    """Turn probabilities (classes, X, Y, Z) into a mask as the task's own attributes say."""
    # the probability above which one class, or a region, is foreground
    threshold = float(getattr(task, "threshold", 0.5))
    regions = getattr(task, "regions", False) is True
    if regions:
        mask = np.stack([volume.mask(region[None], threshold) for region in grid])
    else:
        mask = volume.mask(grid, threshold)
    if getattr(task, "largest_component", False) is True:
        return keep_largest_component(mask, regions=regions)
    return mask
