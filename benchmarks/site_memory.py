"""Peak memory of a site in a process of its own, for each operation, in units of its update.

Runs one round of a federation of three simulated hospitals on NVFlare with a net of 24 million
parameters. Linux only: the kernel's high-water mark is reset before each operation. Prints a
Markdown table and writes a CSV.

    OMP_NUM_THREADS=1 python -m benchmarks.site_memory
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from benchmarks.table import save, say_head, say_row
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
        rows: (operation, bytes before, bytes at the peak) of every call are put here.
    """

    def __init__(
        self,
        inner: Transport,
        processes: Mapping[str, int],
        rows: list[tuple[str, int, int]],
    ) -> None:
        self._inner = inner
        self._processes = processes
        self._rows = rows

    def outcomes(self, op: str, payloads: Mapping[str, bytes], timeout: float) -> Outcomes:
        """As the engine's, measured."""
        before = {site: _reset_peak(self._processes[site]) for site in payloads}
        yield from self._inner.outcomes(op, payloads, timeout)
        for site in payloads:
            self._rows.append((op, before[site], _status(self._processes[site], "VmHWM")))


class Measured(NVFlare):
    """The NVFlare engine with a measuring transport."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, int, int]] = []

    def run(
        self,
        coordinate: Callable[[Transport], T],
        make_site: Callable[[str], Answering],
        names: Sequence[str],
    ) -> T:
        """As NVFlare's."""

        def measured(transport: Transport) -> T:
            assert isinstance(transport, NVFlareTransport)
            return coordinate(Measuring(transport, transport.processes, self.rows))

        return super().run(measured, make_site, names)


def _reset_peak(process: int) -> int:
    """Reset the high-water mark; gives the bytes in use."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return _status(process, "VmRSS")


def _status(process: int, name: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Run one round, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=Path("runs/benchmarks/site_memory.csv"))
    options = parser.parse_args()
    engine = Measured()
    with TemporaryDirectory() as folder:
        arguments = ["--config", "configs/quickstart.yaml", "--output", f"{folder}/run"]
        settings = read_settings([*arguments, *NET, *TINY])
        settings.save()
        object.__setattr__(settings.experiment, "engine", engine)
        run = Run(
            settings.experiment,
            settings.folder,
            Monitor(),
            text=settings.text,
        )
        update = 4 * run.blueprint.layout.length
        run.start()
    rows = _table(engine.rows, update)
    header = ["operation", "calls", "peak above before, MiB", "in updates"]
    sys.stdout.write(f"An update has {update / MIB:.0f} MiB.\n")
    say_head(header)
    for row in rows:
        say_row(row)
    save(options.csv, header, rows)


def _table(rows: Sequence[tuple[str, int, int]], update: int) -> list[list[str]]:
    table = []
    for op in dict.fromkeys(row[0] for row in rows):
        grown = [peak - before for name, before, peak in rows if name == op]
        largest = max(grown)
        table.append([op, str(len(grown)), f"{largest / MIB:.0f}", f"{largest / update:.1f}"])
    return table


if __name__ == "__main__":
    main()
