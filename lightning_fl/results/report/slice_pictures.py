"""Pictures of test slices with the truth and each model's prediction outlined on them."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from lightning_fl.data.module import IGNORE
from lightning_fl.results.scores import MODELS
from lightning_fl.training.overlap import dice as overlap_dice
from lightning_fl.training.overlap import foreground_scores, overlap_counts

LARGEST_SIDE = 256  # pixels; a page of pictures should stay a few megabytes
LARGEST_GALLERY = 8
"""Number of sites in a gallery."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Slice:
    """One test image of a site.

    Attributes:
        image: address that holds the image as PNG, at most `LARGEST_SIDE` pixels wide and high.
        height: height of the masks.
        width: width of the masks.
        truth: outline of the true mask as an SVG path, in pixels of the mask.
        outlines: outline of each model's prediction, in the order of `MODELS`.
        dice: Dice of each model's prediction on this slice alone.
    """

    image: str
    height: int
    width: int
    truth: str
    outlines: Mapping[str, str]
    dice: Mapping[str, float]


def gallery(folder: Path, sites: Iterable[str], pattern: str, limit: int) -> dict[str, list[Slice]]:
    """Read slices of the first sites that have any.

    Args:
        folder: where each site has a folder of its own.
        sites: their names.
        pattern: of the files of slices.
        limit: largest number of slices of a file.
    """
    shown: dict[str, list[Slice]] = {}
    for site in sites:
        files = sorted((folder / site).glob(pattern))
        if slices := [slice_ for file in files for slice_ in read_slices(file, limit)]:
            shown[site] = slices
        if len(shown) == LARGEST_GALLERY:
            break
    return shown


def read_slices(path: Path, limit: int) -> Iterator[Slice]:
    """Read the first slices of a site's gallery.safetensors.

    Args:
        path: the file, with the tensors `image` (N, C, H, W), `truth` (N, H, W), and (N, H, W) for
            each model that predicted: any of "global", "local", "personal". Masks of overlapping
            regions are (N, R, H, W).
        limit: largest number of slices.

    Raises:
        KeyError: the file has no images or no truth.
    """
    tensors = load_file(path)
    models = [model for model in MODELS if model in tensors]
    for number, truth in enumerate(tensors["truth"][:limit]):
        predicted = {model: tensors[model][number] for model in models}
        yield Slice(
            image=png_address(tensors["image"][number]),
            height=truth.shape[-2],
            width=truth.shape[-1],
            truth=outline(truth),
            outlines={model: outline(mask) for model, mask in predicted.items()},
            dice={model: dice(mask, truth) for model, mask in predicted.items()},
        )


def dice(predicted: Mask, truth: Mask) -> float:
    """Return the Dice of one slice: the mean over the foreground classes in either mask.

    Without any foreground it is 1, and without any pixel that counts NaN.

    Args:
        predicted: (H, W) class numbers, 0 being background, or (R, H, W) 0 and 1 of regions.
        truth: of the same shape; `IGNORE` marks pixels that do not count.
    """
    counted = truth != IGNORE
    counts = overlap_counts(
        torch.tensor(predicted)[None],
        torch.tensor(truth)[None],
        1 + max(1, int(predicted.max()), int((truth * counted).max())),
        regions=truth.ndim == 3,
    )
    return foreground_scores(overlap_dice, counts).item()


def outline(mask: Mask) -> str:
    """Trace the boundary of each foreground class as the `d` of an SVG path.

    Args:
        mask: (H, W) class numbers, or (R, H, W) 0 and 1 of regions; pixel (row, column) covers the
            unit square at that place. `IGNORE` is not outlined.
    """
    if mask.ndim == 3:
        return "".join(outline(region) for region in mask)
    paths = []
    # A rim of background closes the outlines of what touches the border.
    padded = np.pad(mask, 1)
    for number in np.unique(mask[mask % IGNORE > 0]):
        for line in contour_generator(z=(padded == number).astype(float)).lines(0.5):
            points = " ".join(f"{x - 0.5:g},{y - 0.5:g}" for x, y in np.asarray(line))
            paths.append(f"M{points}Z")
    return "".join(paths)


def png_address(image: NDArray[np.float32], *, like: NDArray[np.float32] | None = None) -> str:
    """Return an image as an address that holds the PNG itself.

    The contrast is stretched from the 0.5th to the 99.5th percentile.

    Args:
        image: (C, H, W) of any range. Three channels are shown in colour; of any other number the
            middle one is shown, the slice itself in a stack of neighbours.
        like: another image of that shape, whose percentiles are taken, so that both can be
            compared.
    """
    picture = picture_of(image, like=like)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def picture_of(
    image: NDArray[np.float32], *, like: NDArray[np.float32] | None = None
) -> Image.Image:
    """Return an image in grey or in colour, with the contrast of `png_address`."""
    shown = _shown(image)
    low, high = np.percentile(shown if like is None else _shown(like), (0.5, 99.5))
    stretched = np.clip((shown - low) / max(high - low, 1e-6), 0, 1)
    return Image.fromarray((255 * stretched).round().astype(np.uint8))


def _shown(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what there is to see of an image, (H, W) or (H, W, 3)."""
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image[len(image) // 2]
    return np.nan_to_num(shown.astype(np.float32))
