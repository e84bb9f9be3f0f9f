"""The models of one hospital in a run, and how they segment a scan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_fl.data.scans import Mask, Preprocessing, Scan, ScanSource, Volume
from lightning_fl.errors import ConfigError
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.results.volume_tables import ENSEMBLE
from lightning_fl.training.fitting import TrainerOptions, make_trainer
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
        loader: DataLoader[Any] = DataLoader(scan.images(), batch_size=self.batch_size)
        task = _Probabilities(self.models[model])
        batches: Any = make_trainer(self.options).predict(task, loader)
        return list(batches)


class _Probabilities(pl.LightningModule):
    """Give a task's probabilities in `Trainer.predict`, on its device and in its precision."""

    def __init__(self, task: pl.LightningModule) -> None:
        super().__init__()
        self.task = task
        self.to_probabilities, _ = output_maps(task)

    def predict_step(self, images: Tensor, batch_idx: int = 0) -> Tensor:
        return self.to_probabilities(self.task(images)).cpu()


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
    # tasks keep the probability above which one class is foreground as `threshold`
    threshold = float(getattr(next(iter(models.values())), "threshold", 0.5))
    masks: dict[str, dict[str, Mask]] = {name: {} for name in models}
    sums: dict[str, Tensor] = {}
    for site_models in directions:
        volume = site_models.read(path)
        for name in models:
            grid = volume.assemble(site_models.probabilities(name, volume))
            masks[name][site_models.direction] = volume.mask(grid, threshold)
            sums[name] = grid if name not in sums else sums[name].add_(grid)
    if len(directions) > 1:
        for name, total in sums.items():
            masks[name][ENSEMBLE] = volume.mask(total.div_(len(directions)), threshold)
    return volume, masks
