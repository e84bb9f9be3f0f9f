"""How near reconstructions are to the true images, and whether they give a patient away."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from lightning_fl.errors import ConfigError, DataError

SSIM_WINDOW = 11
"""Width in pixels of the window of SSIM; images must not be smaller."""

BEST_PSNR = 100.0
"""What equal images score in dB, so that means stay finite."""


@dataclass(frozen=True)
class ImageScores:
    """Means over a batch, each reconstruction compared with the true image it fits best.

    Attributes:
        psnr: peak signal-to-noise ratio in dB, at most 100.
        ssim: structural similarity, 1 for equal images.
    """

    psnr: float
    ssim: float


def image_scores(
    images: Tensor, truth: Tensor, *, values: tuple[float, float] = (0.0, 1.0)
) -> ImageScores:
    """Score reconstructions, whose order means nothing, against the true images.

    Args:
        images: reconstructions (B, C, H, W).
        truth: true images, of the same shape.
        values: smallest and largest value that a pixel can have.

    Raises:
        ConfigError: the images are smaller than the window of SSIM.
        DataError: shapes differ, or a value is not finite.
    """
    if min(truth.shape[-2:]) < SSIM_WINDOW:
        raise ConfigError(
            f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, but got "
            f"{tuple(truth.shape[-2:])}."
        )
    guess, low, high = images[best_order(images, truth)].to(truth), *values
    psnr = peak_signal_noise_ratio(
        guess, truth, data_range=high - low, reduction="none", dim=(1, 2, 3)
    )
    ssim = structural_similarity_index_measure(guess, truth, data_range=high - low)
    if not isinstance(ssim, Tensor):
        raise TypeError("SSIM gave more than its score.")
    return ImageScores(psnr=float(psnr.clamp(max=BEST_PSNR).mean()), ssim=float(ssim))


def best_order(images: Tensor, truth: Tensor) -> Tensor:
    """Match each true image with a reconstruction, so that the sum of MSE is smallest.

    Args:
        images: (B, C, H, W).
        truth: of the same shape.

    Returns:
        int64 (B,): `images[order]` lines up with `truth`.

    Raises:
        DataError: shapes differ, or a value is not finite.
    """
    if images.shape != truth.shape:
        raise DataError(
            f"Expected reconstructions of the true images' shape {tuple(truth.shape)}, but got "
            f"{tuple(images.shape)}."
        )
    _, columns = linear_sum_assignment(mse_table(truth, images).numpy())
    return torch.as_tensor(columns)


def identifiability(images: Tensor, gallery: Sequence[int], candidates: Tensor) -> float:
    """Return the share of reconstructions that are nearest, of a site's images, to their own.

    Nearness is by MSE. Such a reconstruction identifies a patient. `luck` says how often a guess
    that knows nothing does.

    Args:
        images: reconstructions (B, C, H, W), lined up with `gallery` (see `best_order`).
        gallery: for each, the number of its true image in `candidates`.
        candidates: the site's images (N, C, H, W).

    Raises:
        DataError: shapes do not fit, or a value is not finite.
    """
    if images.shape[1:] != candidates.shape[1:] or len(images) != len(gallery):
        raise DataError(
            f"Expected {len(gallery)} reconstructions of the candidates' shape "
            f"{tuple(candidates.shape[1:])}, but got {tuple(images.shape)}."
        )
    table = mse_table(images, candidates)
    errors = table[torch.arange(len(images)), torch.as_tensor(gallery)]
    nearest = (table >= errors[:, None]).all(dim=1)
    return int(nearest.sum()) / len(nearest)


def luck(images: Tensor, candidates: Tensor, *, draws: int = 200, seed: int = 0) -> float:
    """Return the share that the same reconstructions identify of images drawn at random.

    Reconstructions of several images are lined up with the true ones by what they look like, which
    helps a guess that knows nothing: a single one is right once in as many trials as there are
    candidates, eight together are right far more often.

    Args:
        images: reconstructions (B, C, H, W), in any order.
        candidates: the site's images (N, C, H, W), at least B.
        draws: sets of B candidates that are taken for the true ones; a single image needs none.
        seed: of the draws.

    Raises:
        DataError: a value is not finite.
    """
    if len(images) == 1:
        return 1 / len(candidates)
    table = mse_table(images, candidates).numpy()
    nearest, hits = table.argmin(axis=1), 0
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = generator.permutation(len(candidates))[: len(images)]
        rows, columns = linear_sum_assignment(table[:, drawn])
        hits += int((nearest[rows] == drawn[columns]).sum())
    return hits / (draws * len(images))


def mse_table(first: Tensor, second: Tensor) -> Tensor:
    """Return the MSE of each pair of images, (A, ...) and (B, ...) to (A, B), in float64.

    Raises:
        DataError: a value is not finite.
    """
    if not bool(first.isfinite().all()) or not bool(second.isfinite().all()):
        raise DataError("Images hold NaN or infinity, so they cannot be compared.")
    a, b = (images.detach().cpu().double().flatten(1) for images in (first, second))
    # Row by row: a matrix product would round small differences away.
    return torch.stack([(b - row).square().mean(dim=1) for row in a])
