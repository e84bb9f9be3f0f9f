"""Scores of every case of a split: the patient, and each of its images by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_fl.data.cases import CASE, ORIGINAL
from lightning_fl.data.module import IGNORE
from lightning_fl.errors import ConfigError
from lightning_fl.training.overlap import (
    OVERLAP,
    Masks,
    class_scores,
    foreground_scores,
    overlap_counts,
    sum_by_case,
)
from lightning_fl.training.surface_distance import (
    UNDEFINED,
    Region,
    SurfaceDistances,
    surface_distances,
)

Values = dict[tuple[str, str], Tensor]
"""Values of several cases, float64 (cases,), by label and metric.

The label is "" for the mean over the foreground classes or regions, or the number of one where
there are several. A value that is not defined is NaN.
"""


@dataclass(frozen=True)
class CaseScores:
    """Hold the scores of a split by one model.

    Attributes:
        numbers: of the cases, in the order of `cases`.
        cases: scores from the pixels of all images of a case together. Distances are means over the
            images where they are defined.
        images: scores of single images.
        places: for each image the place of its case in `numbers`.
    """

    numbers: list[int]
    cases: Values
    images: Values
    places: Tensor


class ScoreImages(pl.Callback):
    """Compare masks with the truth in an evaluation, image by image.

    The batches hold `mask` and `case`, and `validation_step` and `test_step` return the predicted
    masks, integers of the truth's shape: a tensor or, for a batch with `original`, a list. A module
    with `regions` set to True has masks with an axis of overlapping regions before those of space.
    Pixels of `IGNORE` are background in both masks when distances are measured.

    Args:
        spacing: edges of a mask's pixel in mm, one for each axis; None for distances in pixels.

    Attributes:
        fits: whether all batches so far and what the steps have returned are as they should be.
    """

    def __init__(self, spacing: Sequence[float] | None) -> None:
        self.spacing = spacing
        self.fits = True
        self.cases: list[Tensor] = []
        self.counts: list[Tensor] = []
        self.distances: list[dict[int, SurfaceDistances]] = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count pixels and measure distances in each image of the batch.

        Raises:
            ConfigError: the spacing does not belong to the masks.
        """
        self.fits = self.fits and _shows_cases(batch) and _are_masks(outputs, _truth(batch))
        if not self.fits:
            return
        regions = getattr(pl_module, "regions", False) is True
        self.cases.append(batch[CASE].cpu())
        for pair in zip(outputs, _truth(batch), strict=True):
            predicted, truth = (mask.long().cpu() for mask in pair)
            counted = truth != IGNORE
            classes = 1 + max(1, int(predicted.max()), int((truth * counted).max()))
            self.counts.append(
                overlap_counts(predicted[None], truth[None], classes, regions=regions)
            )
            spacing = _checked(self.spacing, truth.ndim - regions)
            parts = [_parts(mask * counted, regions) for mask in (predicted, truth)]
            self.distances.append(_distances(parts[0], parts[1], spacing))

    on_test_batch_end = on_validation_batch_end

    def scores(self, classes: int) -> CaseScores | None:
        """Return the scores of all batches, or None where there are no masks and cases.

        Args:
            classes: that there are at least, background included, whatever the masks hold.
        """
        if not self.fits or not self.cases:
            return None
        width = max(classes - 1, *(counts.shape[-1] for counts in self.counts))
        counts = torch.cat([_widened(of_image, width) for of_image in self.counts])
        rows = [
            [by_class.get(k + 1, UNDEFINED) for k in range(width)] for by_class in self.distances
        ]
        distances = torch.tensor(rows, dtype=torch.float64).movedim(-1, 0)
        cases = torch.cat(self.cases)
        numbers, places = torch.unique(cases, return_inverse=True)
        means = [distances[:, places == place].nanmean(dim=1) for place in range(len(numbers))]
        suffix = "_px" if self.spacing is None else ""
        return CaseScores(
            numbers.tolist(),
            _values(sum_by_case(counts, cases), torch.stack(means, dim=1), suffix),
            _values(counts, distances, suffix),
            places,
        )


def _checked(spacing: Sequence[float] | None, axes: int) -> Sequence[float]:
    """Return the edges of a pixel, 1 for each axis where they are not known."""
    if spacing is None:
        return (1.0,) * axes
    if len(spacing) != axes or min(spacing) <= 0:
        raise ConfigError(
            f"`pixel_size` of the data module gives {tuple(spacing)}, but masks have {axes} axes. "
            "Give a positive edge in mm for each axis, e.g. height and width, or None."
        )
    return spacing


def _shows_cases(batch: Any) -> bool:
    return isinstance(batch, Mapping) and {"mask", CASE} <= set(batch)


def _truth(batch: Mapping[str, Any]) -> Masks:
    masks: Masks = batch.get(ORIGINAL, batch["mask"])
    return masks


def _are_masks(outputs: Any, truth: Masks) -> bool:
    """Return whether outputs are class numbers of a truth that holds nothing else."""
    if isinstance(truth, Tensor):
        outputs, truth = [outputs], [truth]
    return isinstance(outputs, Sequence) and all(
        isinstance(output, Tensor)
        and not output.is_floating_point()
        and output.shape == mask.shape
        # a task of one's own may mark pixels to ignore by a negative number
        and int(mask.min()) >= 0
        for output, mask in zip(outputs, truth, strict=True)
    )


def _parts(mask: Tensor, regions: bool) -> dict[int, Region]:
    """Return where the foreground classes or regions of an image are, by number."""
    if regions:
        return {n: region.bool().numpy() for n, region in enumerate(mask, start=1) if region.any()}
    return {n: (mask == n).numpy() for n in torch.unique(mask).tolist() if n}


def _distances(
    predicted: dict[int, Region], truth: dict[int, Region], spacing: Sequence[float]
) -> dict[int, SurfaceDistances]:
    """Measure the distances of each foreground class that is in an image's truth or prediction."""
    nowhere = np.zeros_like(next(iter((predicted | truth).values()), np.zeros(0, dtype=bool)))
    return {
        n: surface_distances(predicted.get(n, nowhere), truth.get(n, nowhere), spacing)
        for n in predicted | truth
    }


def _widened(counts: Tensor, width: int) -> Tensor:
    """Add classes that an image does not show: all pixels that count are true negatives."""
    absent = torch.zeros_like(counts[..., :1])
    absent[:, -1] = counts[..., :1].sum(dim=1)
    return torch.cat([counts, absent.expand(-1, -1, width - counts.shape[-1])], dim=-1)


def _values(counts: Tensor, distances: Tensor, suffix: str) -> Values:
    """Return the scores of some cases.

    Args:
        counts: of pixels, see `overlap`.
        distances: (2, cases, foreground classes).
        suffix: of the distances' names.
    """
    exact, values = counts.double(), Values()
    by_class = {name: class_scores(score, exact) for name, score in OVERLAP.items()}
    for name, score in OVERLAP.items():
        values["", name] = foreground_scores(score, exact)
    for name, of_class in zip(SurfaceDistances._fields, distances, strict=True):
        by_class[name + suffix] = of_class
        values["", name + suffix] = of_class.nanmean(dim=1)
    if counts.shape[-1] > 1:
        for name, of_class in by_class.items():
            for place, column in enumerate(of_class.unbind(dim=1), start=1):
                values[str(place), name] = column
    return values
