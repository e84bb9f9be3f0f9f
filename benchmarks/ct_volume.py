"""Memory and seconds of a large CT: read, resampled, cut, cached, and read again in a second epoch.

Writes one patient of 512 x 512 x 300 voxels, each step in a process of its own, whose peak of
resident memory above its start is compared with the size of the volume in float32. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.ct_volume
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import torch

from benchmarks.printing import Row, command_line, save, say_table
from benchmarks.processes import forget_peak, in_fresh_process, memory
from datamodules import CTFolder

SHAPE = (512, 512, 300)
FLOAT32_BYTES = 4 * int(np.prod(SHAPE))


def write_patient(folder: Path) -> None:
    """Write a noisy CT with a ball of lesion, compressed as hospitals' files are."""
    rng = np.random.default_rng(0)
    hu = rng.normal(-700, 80, SHAPE).astype(np.int16)
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE)
    ball = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None, :] ** 2 < 0.1
    affine = np.diag([-0.7, -0.7, 1.0, 1.0])
    folder.mkdir(parents=True)
    for name, voxels in (("ct", hu), ("mask", ball.astype(np.uint8))):
        image = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
        nibabel.save(image, folder / f"{name}.nii.gz")


def epoch(root: Path) -> None:
    """Load every slice once."""
    slices: Any = _data(root).dataset("A", ["P"], augment=False)
    for index in range(len(slices)):
        slices[index]


def there_and_back(root: Path) -> None:
    """Read the scan, cut it, and bring probabilities back to its own voxels."""
    volume = _data(root).preprocessing("A").read(root / "A" / "P" / "ct.nii.gz")
    images: Any = volume.images()
    shapes = [images[index].shape[-2:] for index in range(len(images))]
    grid = volume.assemble([torch.rand(1, 1, *shape) for shape in shapes])
    volume.mask(grid, 0.5)


STEPS: Mapping[str, Callable[[Path], None]] = {
    "first epoch": epoch,
    "second epoch": epoch,
    "prediction's way there and back": there_and_back,
}


def _data(root: Path) -> CTFolder:
    return CTFolder(root, cache_dir=str(root / ".cache"))


def measure(step: str, root: Path) -> tuple[float, int]:
    """Do one step in this process; return its seconds and by how many bytes memory grew."""
    torch.set_num_threads(1)
    before = forget_peak()
    start = time.perf_counter()
    STEPS[step](root)
    return time.perf_counter() - start, memory("VmHWM") - before


def rows(root: Path) -> Iterator[Row]:
    """Yield a row for each step."""
    for step in STEPS:
        seconds, peak = in_fresh_process(measure, step, root)
        yield {
            "step": step,
            "seconds": f"{seconds:.2f}",
            "peak MB": f"{peak / 1e6:.0f}",
            "of float32 size": f"{peak / FLOAT32_BYTES:.2f}",
        }


def main() -> None:
    """Measure each step and write the table."""
    options = command_line(__doc__, "ct_volume").parse_args()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_patient(root / "A" / "P")
        save(options.csv, say_table(rows(root)))


if __name__ == "__main__":
    main()
