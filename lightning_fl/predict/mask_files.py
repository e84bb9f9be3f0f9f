"""Masks as files: one of class numbers, or one for each overlapping region."""

from pathlib import Path

import numpy as np

from lightning_fl.data.scans import Mask, Picture, Volume


def mask_files(scan: Volume | Picture, mask: Mask, path: Path) -> dict[Path, Mask]:
    """Return the masks to write, by file.

    Overlapping regions have a number each before the suffix: scan.mask.1.png, scan.mask.2.png.

    Args:
        scan: what the mask belongs to.
        mask: in the order of the scan's own file.
        path: with one of the scan's suffixes.
    """
    if mask.ndim == (3 if isinstance(scan, Volume) else 2):
        return {path: mask}
    suffix = next(suffix for suffix in scan.suffixes if path.name.endswith(suffix))
    stem = path.name.removesuffix(suffix)
    return {
        path.with_name(f"{stem}.{number}{suffix}"): np.ascontiguousarray(region)
        for number, region in enumerate(mask, start=1)
    }
