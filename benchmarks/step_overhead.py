"""Seconds of one optimiser step, against a bare PyTorch loop on the same net and batches.

The variants take turns in short blocks, because other work on the machine comes and goes: what is
reported is the median over the repetitions of a block's time divided by the bare loop's in the
same repetition. Time on the clock is what a user waits for; processor time is what remains to be
compared where other programs share the cores. Prints a Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.step_overhead --sizes 64 128 --steps 200
"""

import copy
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, StackDataset

from benchmarks.printing import Row, command_line, save, say, say_table
from benchmarks.quickstart_net import quickstart_net
from callbacks import FederatedCallback
from lightning_fl.algorithms import Algorithm, FedAvg, PerFedAvg
from lightning_fl.seeds import derive_seed, seed_all
from lightning_fl.training.fitting import TrainerOptions, fit
from lightning_fl.training.progress import Progress
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
BATCH, SAMPLES = 8, 96
"""Samples of one gradient, and of the site, which end an epoch."""
STEPS = 20
"""Optimiser steps of one turn."""


class Block(NamedTuple):
    """The times of one turn, on images of `size` pixels.

    Attributes:
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


class StepTimes(pl.Callback):
    """Times the training loop from before its first batch to after its last step."""

    def start(self) -> None:
        """Begin."""
        self._begin = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End."""
        self.wall = time.perf_counter() - self._begin[0]
        self.cpu = time.process_time() - self._begin[1]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End."""
        self.stop()


def make_loader(size: int, batch_size: int, seed: int) -> DataLoader[Any]:
    """Shuffle batches as a site's loader does, from noise that is in memory already."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(SAMPLES, 1, size, size, generator=generator)
    mask = (torch.rand(SAMPLES, size, size, generator=generator) < 0.1).long()
    dataset: Any = StackDataset(image=image, mask=mask)  # type: ignore[arg-type]  # takes tensors
    return DataLoader(
        dataset, batch_size=batch_size, shuffle=True, drop_last=True, generator=generator
    )


def bare_loop(task: Segmentation, loader: DataLoader[Any], times: StepTimes) -> None:
    """Train as one writes it by hand: the same loss and optimiser, nothing logged or checked."""
    net, loss = task.net.train(), task.loss
    optimizer = task.optimizer(net.parameters())
    passes: Iterator[Any] = chain.from_iterable(repeat(loader))  # a new shuffled pass each time
    times.start()
    for batch in islice(passes, STEPS):
        optimizer.zero_grad()
        loss(net(batch["image"]), batch["mask"]).backward()
        optimizer.step()
    times.stop()


def run_block(template: Segmentation, variant: str, size: int, repetition: int) -> Block:
    """Take one variant's turn, from the same weights, samples and seed as the others'."""
    make = VARIANTS[variant]
    algorithm = make() if make else None
    batch_size = BATCH * (algorithm.batches_per_step if algorithm else 1)
    seed = derive_seed(0, size, repetition)
    loader, task, times = make_loader(size, batch_size, seed), copy.deepcopy(template), StepTimes()
    gc.collect()  # the last Trainer's objects shall not be cleared away in this block's time
    seed_all(seed)
    begin = time.perf_counter()
    if algorithm:  # a site's training of one round
        trainer = TrainerOptions(local_steps=STEPS, accelerator="cpu")
        fit(task, loader, [FederatedCallback(algorithm), times], trainer, Progress())
    else:
        bare_loop(task, loader, times)
    around = time.perf_counter() - begin - times.wall
    step = STEPS / 1000
    return Block(size, repetition, variant, times.wall / step, times.cpu / step, 1000 * around)


def measure(
    encoder: str, sizes: Sequence[int], variants: Sequence[str], steps: int
) -> pd.DataFrame:
    """Return all blocks; in each repetition another variant begins."""
    seed_all(0)
    template = Segmentation(quickstart_net(encoder))
    blocks = []
    for size in sizes:
        for repetition in range(1 + max(1, steps // STEPS)):
            shift = repetition % len(variants)
            for variant in (*variants[shift:], *variants[:shift]):
                blocks.append(run_block(template, variant, size, repetition))
    table = pd.DataFrame(blocks)
    return table[table.repetition > 0]  # the first repetition only warms up


def rows(blocks: pd.DataFrame) -> Iterator[Row]:
    """Yield a row for each size and variant."""
    for size, turns in blocks.groupby("size"):
        by_turn = turns.pivot(index="repetition", columns="variant")
        for variant in (name for name in VARIANTS if name in by_turn.wall_ms):
            yield {
                "px": size,
                "variant": variant,
                "ms a step": f"{by_turn.wall_ms[variant].median():.1f}",
                "ratio, clock": spread(by_turn.wall_ms[variant] / by_turn.wall_ms[BARE]),
                "ratio, processor": spread(by_turn.cpu_ms[variant] / by_turn.cpu_ms[BARE]),
                "target": f"{TARGETS[variant]:.2f}" if variant in TARGETS else "",
                "ms around a fit": f"{by_turn.around_ms[variant].median():.0f}",
            }


def spread(values: pd.Series) -> str:
    """Return median and interquartile range."""
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Measure and print the table."""
    parser = command_line(__doc__, "step_overhead")
    parser.add_argument("--encoder", default="tu-lcnet_050", help="e.g. resnet18")
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128], help="pixels")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=200, help="of each variant and size")
    options = parser.parse_args()
    variants = list(dict.fromkeys([BARE, *options.variants]))
    blocks = measure(options.encoder, options.sizes, variants, options.steps)
    save(options.csv, blocks.to_dict("records"))
    say(f"{options.encoder}, batches of {BATCH}, {torch.get_num_threads()} threads\n")
    say_table(rows(blocks))


if __name__ == "__main__":
    main()
