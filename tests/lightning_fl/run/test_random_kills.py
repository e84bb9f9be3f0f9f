"""A run that is killed at ten random moments ends exactly as one that was not."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_fl.run.run import Run
from tests.folders import ROOT
from tests.lightning_fl.run.resuming import outcome
from tests.lightning_fl.run.test_resume import with_ring
from tests.toy import toy_run

SCRIPT = """
import sys
from pathlib import Path
from tests.lightning_fl.run.test_random_kills import kill_and_resume
kill_and_resume(Path(sys.argv[1]))
"""
"""The process that starts the run again and again, with the libraries imported once."""
KILLS = 10


class CountCalls:
    """Counts the calls of Python functions, and kills the process at one of them.

    A moment is the number of a call and no time, so that a busy machine changes nothing.
    """

    def __init__(self, last: int | None = None) -> None:
        self.calls = 0
        self.last = last

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event == "call"
        if self.calls == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def ring_run(folder: Path) -> Run:
    return toy_run(folder, with_ring(16))


def counted(run: Run, last: int | None = None) -> int:
    """Start a run that is killed at a call; return the calls of one that is not."""
    count = CountCalls(last)
    sys.setprofile(count)
    try:
        run.start()
    finally:
        sys.setprofile(None)
    return count.calls


def kill_and_resume(folder: Path) -> None:
    """Kill a run at random moments, each time where it goes on; print how each part ended."""
    torch.set_num_threads(1)
    calls = counted(ring_run(folder / "whole"))
    moments = random.Random(0)
    for _ in range(KILLS):
        last = moments.randrange(calls // 2)
        child = os.fork()
        if child == 0:
            counted(ring_run(folder / "killed"), last)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
    ring_run(folder / "killed").start()


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_bit_equal(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": "."}
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    ends = [int(line) for line in process.stdout.split()]
    assert set(ends) <= {0, signal.SIGKILL}
    assert ends.count(signal.SIGKILL) >= KILLS // 2
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
