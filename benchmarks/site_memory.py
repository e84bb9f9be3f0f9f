"""Peak memory of a site in a process of its own, for each operation, in units of its update.

Runs one round of a federation of three simulated hospitals on NVFlare with a net of 24 million
parameters. Linux only: the kernel's high-water mark is reset before each operation. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.site_memory
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TypeVar

import pandas as pd

from benchmarks.printing import Row, command_line, save, say, say_table
from benchmarks.processes import forget_peak, memory
from lightning_fl.engines.nvflare.engine import NVFlare
from lightning_fl.engines.nvflare.transport import NVFlareTransport
from lightning_fl.run.config import read_settings
from lightning_fl.run.run import Run
from lightning_fl.wire.monitor import Monitor
from lightning_fl.wire.transport import Answering, Outcomes, Transport

T = TypeVar("T")
MIB = 2**20
NET = (
    *("--net", "segmentation_models_pytorch.Unet", "--net.encoder_name", "resnet34"),
    *("--net.encoder_depth", "5", "--net.decoder_channels", "[256, 128, 64, 32, 16]"),
)
TINY = (
    *("--rounds", "1", "--trainer.local_steps", "1", "--trainer.accelerator", "cpu"),
    *("--data.sites", "3", "--data.size", "32", "--data.patients", "[3]", "--data.slices", "6"),
    *("--data.batch_size", "2", "--evaluation.gallery", "0"),
    *("--personalisation.candidates", "[]"),
)


class Measuring(Transport):
    """Reads, for each operation, by how much a site's process grew at most.

    Args:
        inner: of the engine.
        processes: number of each site's process.
        growth: (operation, bytes) of every call are put here.
    """

    def __init__(
        self, inner: Transport, processes: Mapping[str, int], growth: list[tuple[str, int]]
    ) -> None:
        self._inner = inner
        self._processes = processes
        self._growth = growth

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """Yield the engine's outcomes, measured."""
        before = {site: forget_peak(self._processes[site]) for site in payloads}
        yield from self._inner.outcomes(op, payloads, timeout)
        for site in payloads:
            peak = memory("VmHWM", self._processes[site])
            self._growth.append((op, peak - before[site]))


class MeasuredNVFlare(NVFlare):
    """The NVFlare engine with a measuring transport."""

    def __init__(self) -> None:
        super().__init__()
        self.growth: list[tuple[str, int]] = []

    def run(
        self,
        coordinate: Callable[[Transport], T],
        make_site: Callable[[str], Answering],
        names: Sequence[str],
    ) -> T:
        """Run as NVFlare does."""

        def measured(transport: Transport) -> T:
            assert isinstance(transport, NVFlareTransport)
            return coordinate(Measuring(transport, transport.processes, self.growth))

        return super().run(measured, make_site, names)


def rows(growth: Sequence[tuple[str, int]], update: int) -> Iterator[Row]:
    """Yield a row for each operation."""
    table = pd.DataFrame(growth, columns=["operation", "bytes"])
    for operation, sizes in table.groupby("operation", sort=False).bytes:
        yield {
            "operation": operation,
            "calls": len(sizes),
            "peak above before, MiB": f"{sizes.max() / MIB:.0f}",
            "in updates": f"{sizes.max() / update:.1f}",
        }


def main() -> None:
    """Run one round, write the table."""
    options = command_line(__doc__, "site_memory").parse_args()
    engine = MeasuredNVFlare()
    with TemporaryDirectory() as folder:
        arguments = ["--config", "configs/quickstart.yaml", "--output", f"{folder}/run"]
        settings = read_settings([*arguments, *NET, *TINY])
        settings.save()
        experiment = replace(settings.experiment, engine=engine)
        run = Run(experiment, settings.folder, Monitor(), text=settings.text)
        update = 4 * run.blueprint.layout.length
        run.start()
    say(f"An update has {update / MIB:.0f} MiB.")
    save(options.csv, say_table(rows(engine.growth, update)))


if __name__ == "__main__":
    main()
