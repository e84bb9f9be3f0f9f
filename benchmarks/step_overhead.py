"""Seconds of one optimiser step, against a bare PyTorch loop on the same net and batches.

The variants take turns in short blocks, because other work on the machine comes and goes: what is
reported is the median over the repetitions of a block's time divided by the bare loop's in the
same repetition. Time on the clock is what a user waits for; processor time is what remains to be
compared where other programs share the cores. Prints a Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python benchmarks/step_overhead.py --sizes 64 128 --steps 200
"""

import argparse
import copy
import csv
import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader, StackDataset

from callbacks import FederatedCallback
from lightning_fl.algorithms import Algorithm, FedAvg, PerFedAvg
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.fitting import Progress, TrainerOptions, fit
from models import Segmentation

BARE = "PyTorch loop"
VARIANTS: Mapping[str, Callable[[], Algorithm] | None] = {
    BARE: None,
    "FedAvg": FedAvg,
    "Per-FedAvg, first order": lambda: PerFedAvg(order="first"),
    "Per-FedAvg, exact": lambda: PerFedAvg(order="exact"),
    "Per-FedAvg, Hessian-free": lambda: PerFedAvg(order="hessian_free"),
}
TARGETS = {"FedAvg": 1.10, "Per-FedAvg, first order": 2.2, "Per-FedAvg, exact": 5.0}
"""Largest ratio to the bare loop that we want."""


@dataclass(frozen=True)
class Block:
    """The times of one block of steps.

    Attributes:
        size: of the images, in pixels.
        repetition: number of the turn.
        variant: key of `VARIANTS`.
        wall_ms: milliseconds on the clock for a step.
        cpu_ms: milliseconds of processor time, of all threads, for a step.
        around_ms: milliseconds that the whole block takes beside its steps (Trainer, hooks).
    """

    size: int
    repetition: int
    variant: str
    wall_ms: float
    cpu_ms: float
    around_ms: float


class Stopwatch(pl.Callback):
    """Times the training loop from before its first batch to after its last step."""

    def start(self) -> None:
        """Begin, once the device has nothing left to do."""
        _wait_for_device()
        self._begin = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End, once the device has done everything."""
        _wait_for_device()
        self.wall = time.perf_counter() - self._begin[0]
        self.cpu = time.process_time() - self._begin[1]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End."""
        self.stop()


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_task(encoder: str) -> Segmentation:
    """The net and the task of configs/quickstart.yaml, with Adam and Dice plus cross-entropy."""
    net = smp.Unet(
        encoder,
        encoder_weights=None,
        encoder_depth=4,
        decoder_channels=(64, 32, 16, 16),
        in_channels=1,
        classes=1,
    )
    return Segmentation(net)


def make_loader(size: int, samples: int, batch_size: int, seed: int) -> DataLoader[Any]:
    """Shuffled batches as a site's loader makes them, from noise that is in memory already."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(samples, 1, size, size, generator=generator)
    mask = (torch.rand(samples, size, size, generator=generator) < 0.1).long()
    dataset: Any = StackDataset(image=image, mask=mask)  # type: ignore[arg-type]  # takes tensors
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        generator=generator,
    )


def bare_loop(task: Segmentation, loader: DataLoader[Any], steps: int, device: str) -> Stopwatch:
    """What one writes by hand: the same loss and optimiser, nothing logged or checked."""
    net, loss = task.net.to(device).train(), task.loss
    optimizer = task.optimizer(net.parameters())
    passes: Iterator[Any] = chain.from_iterable(repeat(loader))  # a new shuffled pass each time
    watch = Stopwatch()
    watch.start()
    for batch in islice(passes, steps):
        image, mask = batch["image"].to(device), batch["mask"].to(device)
        optimizer.zero_grad()
        loss(net(image), mask).backward()
        optimizer.step()
    watch.stop()
    return watch


def site_loop(
    task: Segmentation, loader: DataLoader[Any], steps: int, device: str, algorithm: Algorithm
) -> Stopwatch:
    """A site's training of one round."""
    watch = Stopwatch()
    options = TrainerOptions(local_steps=steps, accelerator=device)
    fit(task, loader, [FederatedCallback(algorithm), watch], options, Progress())
    return watch


def run_block(
    template: Segmentation, variant: str, size: int, repetition: int, options: argparse.Namespace
) -> Block:
    """One variant's turn, from the same weights, samples and seed as the others'."""
    make = VARIANTS[variant]
    algorithm = make() if make else None
    batch_size = options.batch_size * (algorithm.batches_per_step if algorithm else 1)
    seed = derive_seed(0, size, repetition)
    loader = make_loader(size, options.samples, batch_size, seed)
    task = copy.deepcopy(template)
    gc.collect()  # the last Trainer's objects shall not be cleared away in this block's time
    seed_all(seed)
    begin = time.perf_counter()
    arguments = (task, loader, options.block, options.accelerator)
    watch = site_loop(*arguments, algorithm) if algorithm else bare_loop(*arguments)
    around = time.perf_counter() - begin - watch.wall
    per_step = 1000 / options.block
    wall, cpu = watch.wall * per_step, watch.cpu * per_step
    return Block(size, repetition, variant, wall, cpu, 1000 * around)


def measure(options: argparse.Namespace) -> list[Block]:
    """All blocks; in each repetition another variant begins. The first repetition only warms up."""
    seed_all(0)
    template = make_task(options.encoder)
    names = list(options.variants)
    blocks = []
    for size in options.sizes:
        for repetition in range(1 + max(1, options.steps // options.block)):
            shift = repetition % len(names)
            for name in names[shift:] + names[:shift]:
                blocks.append(run_block(template, name, size, repetition, options))
    return [block for block in blocks if block.repetition > 0]


def ratios(blocks: list[Block], variant: str, column: str) -> list[float]:
    """A variant's time divided by the bare loop's, for each repetition."""
    bare = {b.repetition: getattr(b, column) for b in blocks if b.variant == BARE}
    return [getattr(b, column) / bare[b.repetition] for b in blocks if b.variant == variant]


def spread(values: list[float]) -> str:
    """Median and interquartile range."""
    if len(values) < 2:
        return f"{median(values):.2f}"
    low, _, high = quantiles(values, method="inclusive")
    return f"{median(values):.2f} [{low:.2f}, {high:.2f}]"


def table(blocks: list[Block]) -> str:
    """Markdown: one row for a size and a variant."""
    lines = [
        "| px | variant | ms a step | ratio, clock | ratio, processor | target | ms around a fit |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, name in dict.fromkeys((block.size, block.variant) for block in _in_order(blocks)):
        same_size = [block for block in blocks if block.size == size]
        own = [block for block in same_size if block.variant == name]
        target = f"{TARGETS[name]:.2f}" if name in TARGETS else ""
        cells = [
            f"{median(b.wall_ms for b in own):.1f}",
            *(spread(ratios(same_size, name, column)) for column in ("wall_ms", "cpu_ms")),
            target,
            f"{median(b.around_ms for b in own):.0f}",
        ]
        lines.append(f"| {size} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _in_order(blocks: list[Block]) -> list[Block]:
    names = list(VARIANTS)
    return sorted(blocks, key=lambda block: (block.size, names.index(block.variant)))


def write_csv(path: Path, blocks: list[Block]) -> None:
    """One row for each block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(block) for block in blocks]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parse() -> argparse.Namespace:
    """The command line; the bare loop is always among the variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="tu-lcnet_050", help="e.g. resnet18")
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128], help="pixels")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--batch-size", type=int, default=8, help="samples of one gradient")
    parser.add_argument("--steps", type=int, default=200, help="of each variant and size")
    parser.add_argument("--block", type=int, default=20, help="steps of one turn")
    parser.add_argument("--samples", type=int, default=96, help="of the site, which end an epoch")
    parser.add_argument("--accelerator", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark_step_overhead"))
    options = parser.parse_args()
    options.variants = list(dict.fromkeys([BARE, *options.variants]))
    return options


def main() -> None:
    """Measure and print the table."""
    options = parse()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    blocks = measure(options)
    write_csv(options.output / f"{options.encoder}.csv", blocks)
    sys.stdout.write(
        f"{options.encoder}, batches of {options.batch_size}, {options.accelerator}, "
        f"{torch.get_num_threads()} threads\n\n{table(blocks)}\n"
    )


if __name__ == "__main__":
    main()
