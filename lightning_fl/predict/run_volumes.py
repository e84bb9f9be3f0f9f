"""Whole test scans at the end of a run: masks, volumes.csv, a slice of each for the report.

Scans are read from their files and segmented by the models in models/, through the functions that
predictions use. So a mask of the evaluation and one predicted later are equal to the last bit.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from lightning_fl.data.module import IGNORE, FederatedDataModule
from lightning_fl.data.scans import Mask, Volume
from lightning_fl.files import write_bytes
from lightning_fl.predict.finished_run import FinishedRun
from lightning_fl.predict.mask_files import mask_files
from lightning_fl.predict.site_models import models_by_direction, segment
from lightning_fl.predict.volume_scores import volume_scores
from lightning_fl.results.volume_tables import VolumeRow, final_direction, write_volumes
from lightning_fl.run_files import GLOBAL, MASKS, PERSONAL, PICTURE, VOLUMES
from lightning_fl.training.evaluation import Evaluation
from lightning_fl.wire.monitor import Monitor

_log = logging.getLogger(__name__)


def evaluate_volumes(
    run: FinishedRun,
    data: FederatedDataModule,
    *,
    sites: Sequence[str],
    unseen: Sequence[str],
    evaluation: Evaluation,
    seed: int,
    monitor: Monitor,
) -> list[VolumeRow]:
    """Score every site's whole test scans, and leave masks/ and volumes.csv in the run's folder.

    The run has its models on disk, and its data are bound to no site. `unseen` are sites that only
    got the finished model. The monitor hears of each scan.

    Returns:
        The rows of volumes.csv; none where the data hold no whole scans.
    """
    bound = {site: data.for_site(site, seed) for site in (*sites, *unseen)}
    scans = [part.scans(site, part.split(site).test) for site, part in bound.items()]
    if not any(scans):
        return []
    shutil.rmtree(run.folder / MASKS, ignore_errors=True)  # of a run that is resumed
    monitor.on_operation(operation="segment whole scans", total=sum(map(len, scans)), unit="scans")
    rows: list[VolumeRow] = []
    for site, part in bound.items():
        for rows_of_scan in _evaluate_site(run, part, site, evaluation.gallery):
            rows += rows_of_scan
            monitor.on_part_done()
    write_volumes(run.folder / VOLUMES, rows)
    return rows


def _evaluate_site(
    run: FinishedRun, data: FederatedDataModule, site: str, gallery: int
) -> Iterator[list[VolumeRow]]:
    """Yield the rows of one test scan of a site after the other, for each model and direction.

    Masks are RUN/masks/<site>/<patient>.<model>.nii.gz, in the space of the patient's own scan.
    """
    kinds = [k for k in (GLOBAL, PERSONAL) if all(member.has(site, k) for member in run.members)]
    if not kinds:
        _log.warning("site %r has no model in %s, so its scans are left out", site, run.folder)
        return
    directions = models_by_direction(run, site, kinds)
    folder = run.folder / MASKS / site
    folder.mkdir(parents=True, exist_ok=True)
    for files in data.scans(site, data.split(site).test):
        volume, masks = segment(directions, files.image)
        truth = volume.read_mask(files.mask)
        used = {model: each[final_direction(each)] for model, each in masks.items()}
        for model, mask in used.items():
            path = folder / f"{files.name}.{model}.nii.gz"
            for file, part in mask_files(volume, mask, path).items():
                volume.save(part, file)
        if gallery and (truth % IGNORE).any():
            gallery -= 1
            picture = _draw_slice(volume, truth, used)
            write_bytes(folder / f"{files.name}{PICTURE}", safetensors.torch.save(picture))
        yield [
            VolumeRow(site, files.name, model, direction, metric, value)
            for model, each in masks.items()
            for direction, mask in each.items()
            for metric, value in volume_scores(mask, truth, volume.spacing).items()
        ]


def _draw_slice(volume: Volume, truth: Mask, masks: Mapping[str, Mask]) -> dict[str, Tensor]:
    """Draw the axial slice with the largest lesion, in the form of the report's galleries."""
    levels = {name: _axial(volume, mask) for name, mask in {"truth": truth, **masks}.items()}
    level = int(np.argmax(np.count_nonzero(levels["truth"] % IGNORE, axis=(0, 2, 3))))
    tensors = {"image": volume.picture(level)[None].contiguous()}
    for name, mask in levels.items():
        regions = torch.from_numpy(np.ascontiguousarray(mask[:, level]))
        tensors[name] = regions[None] if truth.ndim > 3 else regions
    return tensors


def _axial(volume: Volume, mask: Mask) -> Mask:
    """Return the axial slices of each region, or of a mask of classes as if of one region."""
    return np.stack([volume.axial(part) for part in (mask if mask.ndim > 3 else mask[None])])
