"""Images and masks in folders, one folder a hospital."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datamodules.images.images import Images
from datamodules.index import Folders
from datamodules.targets import ClassNumbers


class ImageFolder(Images):
    """Read `root/<site>/images/<name>` and the mask `root/<site>/masks/<name>`.

    This is `Images` with the index `Folders` and the target `ClassNumbers`. A mask may have another
    suffix than its image.

    Args:
        root: folder of the hospitals' folders.
        patient: how to tell the patient of an image: "manifest" reads `root/manifest.csv` with the
            columns site, patient and file, which has to name every image once; a regular expression
            with one group searches the file name, e.g. "^(P[0-9]+)_"; "file" makes each image a
            patient of its own. All images of a patient go to the same part of the split.
        sites: hospitals to use, in this order; null is all sub folders, by name.
        channels: 1 turns all images grey, 3 repeats grey images; null takes them as they are, and
            then all need the same number.
        classes: 1 for binary masks of 0 and one other number, e.g. 255; otherwise the number of
            classes, background included, and masks hold 0 to classes - 1.
        **kwargs: of `Images` and of its base class.

    Raises:
        ConfigError: a setting cannot work.
        DataError: files are missing, or not named as they should be.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        patient: str = "manifest",
        sites: Sequence[str] | None = None,
        channels: Literal[1, 3] | None = None,
        classes: int = 1,
        **kwargs: Any,  # jsonargparse finds the base class's own types
    ) -> None:
        super().__init__(
            Folders(root, patient=patient, sites=sites),
            target=ClassNumbers(classes),
            channels=channels,
            sites=sites,
            **kwargs,
        )
