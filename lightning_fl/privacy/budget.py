"""Hold a hospital's privacy budget where its data are, over all its runs."""

import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lightning_fl.errors import ConfigError
from lightning_fl.files import write_text
from lightning_fl.privacy.accountant import GaussianStep, epsilon

Entry = tuple[float, float, int]
"""Noise multiplier, sampling rate and number of steps that were released together."""

LOCK = ".budget.lock"
"""Locked while a run of the hospital spends, in the folder of its runs."""


@dataclass(frozen=True)
class Budget:
    """Counts what a site releases in a file of its folder, before it is released.

    Attributes:
        file: of the site in this run.
        most: the budget, an epsilon; None only counts.
        runs: folder of all runs of the hospital, whose files of this name count too; None for
            this run alone.
        delta: at which the hospital counts. A run could choose one so large that epsilon says
            little.
    """

    file: Path
    most: float | None = None
    runs: Path | None = None
    delta: float = 1e-5

    def spend(self, entry: Entry) -> None:
        """Count a release that is about to be made.

        Raises:
            ConfigError: the budget does not suffice; says what is spent and since when.
        """
        with self._locked():
            self.check(entry)
            write_text(self.file, json.dumps([*self.entries(), entry]))

    def check_first(self, entry: Entry) -> None:
        """Refuse a run that the budget does not let begin.

        A run that has begun is let in, since it can end without another release.

        Raises:
            ConfigError: says what is spent and since when.
        """
        if not self.entries():
            self.check(entry)

    def check(self, entry: Entry) -> None:
        """Refuse a release for which the budget does not suffice.

        Raises:
            ConfigError: says what is spent and since when.
        """
        if self.most is None:
            return
        spent = [e for file in self._files() for e in _read(file)]
        after = epsilon_of([*spent, entry], self.delta)
        if after > self.most:
            raise ConfigError(
                f"The privacy budget of this hospital is epsilon {self.most:g} at delta "
                f"{self.delta:g} (`epsilon` and `delta` in its file) over all runs. Spent are "
                f"{epsilon_of(spent, self.delta):.4g} in {len(spent)} "
                f"releases{self._since()}; another one would make it {after:.4g}. The hospital "
                "takes no further part, unless it raises its budget."
            )

    def entries(self) -> list[Entry]:
        """Return what this run has counted so far."""
        return _read(self.file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one run at a time spend; others, in processes of their own, wait for it."""
        with (self.runs or self.file.parent).joinpath(LOCK).open("a") as file:
            fcntl.flock(
                file, fcntl.LOCK_EX
            )  # closing the file, or the end of the process, frees it
            yield

    def _files(self) -> list[Path]:
        if self.runs is None:
            return [self.file]
        return sorted({self.file, *self.runs.rglob(self.file.name)})

    def _since(self) -> str:
        times = [file.stat().st_mtime for file in self._files() if file.is_file()]
        if not times:
            return ""
        return time.strftime(", the last on %Y-%m-%d at %H:%M", time.localtime(max(times)))


def epsilon_of(entries: Sequence[Entry], delta: float) -> float:
    """Return the epsilon of everything that was counted."""
    return epsilon(
        (GaussianStep(z, rate) for z, rate, count in entries for _ in range(count)), delta
    )


def _read(file: Path) -> list[Entry]:
    return [tuple(e) for e in json.loads(file.read_text("utf-8"))] if file.is_file() else []
