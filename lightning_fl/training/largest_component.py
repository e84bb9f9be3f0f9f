"""The largest connected part of a mask, as nnU-Net's postprocessing keeps it."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.uint8]


def keep_largest_component(mask: Mask, *, regions: bool = False) -> Mask:
    """Remove all but the largest connected part of each foreground class.

    Pixels that touch at a corner are connected (Isensee et al. 2021, Nature Methods 18:203-211).

    Args:
        mask: class numbers of an image or volume, any number of axes.
        regions: whether the mask has a first axis of overlapping regions, each 0 and 1.
    """
    if regions:
        return np.stack([keep_largest_component(region) for region in mask])
    kept = np.zeros_like(mask)
    touching = np.ones((3,) * mask.ndim)
    for number in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == number, structure=touching)
        sizes = np.bincount(parts.ravel())
        kept[parts == 1 + sizes[1:].argmax()] = number
    return kept
