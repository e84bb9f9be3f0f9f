"""Processor seconds of a first epoch of PNG files with masks, against a plain torchvision loader.

Writes noisy images of 128 x 128 pixels with binary masks, and reads each once in batches of 32:
by `datamodules.Images`, listing the files included, and by a dataset that opens each file with
Pillow and turns it into a tensor with torchvision, and does nothing else. Prints a Markdown table
of the best of three turns and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.image_epoch
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype

from benchmarks.printing import Row, command_line, save, say_table
from datamodules import Folders, Images

SIDE = 128
TURNS = 3


def write_images(root: Path, count: int) -> None:
    """Write images and masks of one hospital."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / "A" / part).mkdir(parents=True)
    for number in range(count):
        shades = rng.normal(100, 20, (SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[30:60, 40:80] = 255
        Image.fromarray(shades).save(root / "A" / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "A" / "masks" / f"{number}.png")


class _Plain(Dataset[Any]):
    """Read pairs and do nothing else."""

    def __init__(self, root: Path) -> None:
        self.images = sorted((root / "A" / "images").iterdir())
        self.masks = sorted((root / "A" / "masks").iterdir())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = pil_to_tensor(Image.open(self.images[index]))
        mask = pil_to_tensor(Image.open(self.masks[index]))
        return {
            "image": to_dtype(image, torch.float32, scale=True),
            "mask": (mask[0] > 0).long(),
        }


def _ours(root: Path) -> Dataset[Any]:
    data = Images(Folders(root), normalise="none")
    return data.dataset("A", data.patients("A"), augment=False)


READERS: Mapping[str, Callable[[Path], Dataset[Any]]] = {
    "Pillow and torchvision": _Plain,
    "datamodules.Images": _ours,
}


def epoch(make: Callable[[Path], Dataset[Any]], root: Path) -> float:
    """Return the processor seconds of listing the files and reading each once."""
    start = time.process_time()
    for batch in DataLoader(make(root), batch_size=32):
        batch["image"].sum()
    return time.process_time() - start


def rows(root: Path) -> Iterator[Row]:
    """Yield a row for each reader; they take turns, so that both meet the same load."""
    torch.set_num_threads(1)
    turns = [{name: epoch(make, root) for name, make in READERS.items()} for _ in range(TURNS)]
    best = {name: min(turn[name] for turn in turns) for name in READERS}
    plain = best["Pillow and torchvision"]
    for name, seconds in best.items():
        yield {
            "reader": name,
            "processor seconds": f"{seconds:.2f}",
            "of plain": f"{seconds / plain:.2f}",
        }


def main() -> None:
    """Measure both readers and write the table."""
    parser = command_line(__doc__, "image_epoch")
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root, options.images)
        save(options.csv, say_table(rows(root)))


if __name__ == "__main__":
    main()
