"""Whole test scans of one hospital in three dimensions, by the models of one or more runs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import Tensor

from lightning_fl.data.module import FederatedDataModule
from lightning_fl.data.scans import Mask, Preprocessing, Volume
from lightning_fl.errors import ConfigError
from lightning_fl.files import write_bytes
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.probabilities import probabilities
from lightning_fl.predict.volume_scores import volume_scores
from lightning_fl.results.volume_tables import ENSEMBLE, VolumeRow, final_direction
from lightning_fl.run_files import GLOBAL, MASKS, PERSONAL, PICTURE
from lightning_fl.training.fitting import TrainerOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One run's models of one site, and how they look at a scan.

    Attributes:
        direction: what its rows are called by.
        models: by name, "global" and "personal".
        preprocessing: of the site.
        batch_size: images at a time.
        options: of the run's Trainer.
    """

    direction: str
    models: Mapping[str, pl.LightningModule]
    preprocessing: Preprocessing
    batch_size: int
    options: TrainerOptions

    def grids(self, volume: Volume) -> dict[str, Tensor]:
        """Each model's probabilities (classes, X, Y, Z) on the scan's grid."""
        return {
            name: volume.assemble(probabilities(model, volume, self.batch_size, self.options))
            for name, model in self.models.items()
        }


def views_of(
    run: FinishedRun, site: str | None, kinds: Sequence[str], accelerator: str | None = None
) -> list[View]:
    """How the models of a run, one for each direction, look at a site's scans.

    Args:
        run: finished; where it has several directions, each of theirs is.
        site: whose models and preprocessing; None for the global model of nobody.
        kinds: of "global" and "personal".
        accelerator: another one than the run's, or None.
    """
    return [
        View(
            member.direction,
            {kind: member.model(site, kind) for kind in kinds},
            member.preprocessing(site),
            member.batch_size,
            member.options(accelerator),
        )
        for member in run.members
    ]


def threshold_of(views: Sequence[View]) -> float:
    """Probability above which one class is foreground, which tasks keep as `threshold`."""
    return float(getattr(next(iter(views[0].models.values())), "threshold", 0.5))


def segment(views: Sequence[View], path: Path) -> tuple[Volume, dict[str, dict[str, Mask]]]:
    """Segment one scan by every model from every direction, and by the mean of the directions.

    Args:
        views: one for each direction.
        path: of the scan.

    Returns:
        The scan, and masks by model and direction; "ensemble" is there with two views or more.

    Raises:
        ConfigError: the preprocessing gives no volumes.
        DataError: the scan cannot be read.
    """
    masks: dict[str, dict[str, Mask]] = {name: {} for name in views[0].models}
    sums: dict[str, Tensor] = {}
    threshold = threshold_of(views)
    for view in views:
        volume = _read(view, path)
        for name, grid in view.grids(volume).items():
            masks[name][view.direction] = volume.mask(grid, threshold)
            sums[name] = grid if name not in sums else sums[name].add_(grid)
    if len(views) > 1:
        for name, total in sums.items():
            masks[name][ENSEMBLE] = volume.mask(total.div_(len(views)), threshold)
    return volume, masks


def _read(view: View, path: Path) -> Volume:
    scan = view.preprocessing.read(path)
    if not isinstance(scan, Volume):
        raise ConfigError(
            f"{type(view.preprocessing).__name__} reads scans that are not segmented; whole scans "
            "need one like datamodules.CTFolder's."
        )
    return scan


def evaluate_site(
    run: FinishedRun, data: FederatedDataModule, site: str, gallery: int
) -> Iterator[list[VolumeRow]]:
    """Score the whole test scans of a site; the masks go into the run's folder.

    Masks are RUN/masks/<site>/<patient>.<model>.nii.gz, in the space of the patient's own scan.

    Args:
        run: finished.
        data: bound to the site.
        site: whose models, test patients and folder.
        gallery: scans of which a slice is shown in the report.

    Yields:
        The rows of one scan after the other: one for each model, direction and metric.
    """
    kinds = [k for k in (GLOBAL, PERSONAL) if all(one.has(site, k) for one in run.members)]
    if not kinds:
        _log.warning("site %r has no model in %s, so its scans are left out", site, run.folder)
        return
    views = views_of(run, site, kinds)
    folder = run.folder / MASKS / site
    folder.mkdir(parents=True, exist_ok=True)
    for files in data.scans(site, data.split(site).test):
        volume, masks = segment(views, files.image)
        truth = volume.read_mask(files.mask)
        used = {model: found[final_direction(found)] for model, found in masks.items()}
        for model, mask in used.items():
            volume.save(mask, folder / f"{files.name}.{model}.nii.gz")
        rows = [
            VolumeRow(site, files.name, model, direction, metric, value)
            for model, found in masks.items()
            for direction, mask in found.items()
            for metric, value in volume_scores(mask, truth, volume.spacing).items()
        ]
        if gallery and truth.any():
            gallery -= 1
            picture = draw_slice(volume, truth, used)
            write_bytes(folder / f"{files.name}{PICTURE}", safetensors.torch.save(picture))
        yield rows


def draw_slice(volume: Volume, truth: Mask, masks: Mapping[str, Mask]) -> dict[str, Tensor]:
    """The axial slice with the largest lesion, as `results.gallery.read_slices` takes it.

    Args:
        volume: the scan.
        truth: the reader's mask, not empty.
        masks: by model.
    """
    level = int(np.argmax(np.count_nonzero(volume.axial(truth), axis=(1, 2))))
    tensors = {"image": volume.picture(level)[None].contiguous()}
    for name, mask in {"truth": truth, **masks}.items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(volume.axial(mask)[level]))[None]
    return tensors
