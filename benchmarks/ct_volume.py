"""Memory and seconds of a large CT: read, resampled, cut, cached, and read again in a second epoch.

Writes one patient of 512 x 512 x 300 voxels, each step in a process of its own, whose peak of
resident memory above its start is compared with the size of the volume in float32. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python benchmarks/ct_volume.py
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from datamodules import CTFolder

SHAPE = (512, 512, 300)
FLOAT32_MB = int(np.prod(SHAPE)) * 4 / 1e6
STEPS = ("first epoch", "second epoch", "prediction's way there and back")


def write_patient(folder: Path, shape: tuple[int, int, int]) -> None:
    """A noisy CT with a ball of lesion, compressed as hospitals' files are."""
    rng = np.random.default_rng(0)
    hu = rng.normal(-700, 80, shape).astype(np.int16)
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
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


def _data(root: Path) -> CTFolder:
    return CTFolder(root, cache_dir=str(root / ".cache"))


def measure(step: str, root: Path) -> None:
    """Do one step in this process and print its seconds and its peak of memory in MB."""
    actions: dict[str, Callable[[Path], None]] = dict(
        zip(STEPS, (epoch, epoch, there_and_back), strict=True)
    )
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _peak()
    start = time.perf_counter()
    actions[step](root)
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{seconds} {_peak() - before}")


def _peak() -> float:
    """The peak of this process's resident memory in MB; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    """Measure each step and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=Path("runs/benchmarks/ct_volume.csv"))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        measure(options.step, options.root)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_patient(root / "A" / "P", SHAPE)
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--root", str(root)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, peak = map(float, said.split())
            rows.append([step, f"{seconds:.2f}", f"{peak:.0f}", f"{peak / FLOAT32_MB:.2f}"])
    header = ["step", "seconds", "peak MB", "of float32 size"]
    lines = [header, ["---"] * len(header), *rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
