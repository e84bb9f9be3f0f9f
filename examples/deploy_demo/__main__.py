"""The command line of the demo."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from examples.deploy_demo.demo import Demo
from examples.deploy_demo.outcome import summary
from examples.deploy_demo.places import Places
from examples.deploy_demo.processes import Processes
from lightning_fl.errors import ConfigError

LIMIT = 20.0
"""Minutes that the training may take; it takes two or three on two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the status of train.py, 2 for a failed step, 130 for Ctrl-C."""
    options, settings = _parser().parse_known_args(arguments)
    folder = Path("runs", "deploy_demo", time.strftime("%Y-%m-%d_%H-%M-%S"))
    places = Places(options.output or folder)
    start = time.monotonic()
    try:
        with Processes() as processes:
            demo = Demo(places, processes, _say)
            status = demo.run(settings, 60 * options.limit)
        if status == 0:
            sys.stdout.write(summary(places, demo.project.sites))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            f"interrupted; all processes of the demo have ended. Logs: {places.folder}\n"
        )
        return 130
    _say(f"All processes of the demo have ended; {time.monotonic() - start:.0f} seconds")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.deploy_demo",
        description="A server, three hospitals and a coordinator on this machine, as in "
        "docs/deploy.md. Further arguments go to train.py, e.g. --rounds 2.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", type=Path, help="folder, new or empty (default runs/deploy_demo/<time>)"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help=f"minutes of the training ({LIMIT:g})"
    )
    return parser


def _say(step: str) -> None:
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()


def _end(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in (signal.SIGTERM, signal.SIGHUP):  # else they would leave the processes behind
        signal.signal(ending, _end)
    sys.exit(main())
