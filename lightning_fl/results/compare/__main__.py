"""Compare finished runs: `python -m lightning_fl.results.compare RUN RUN [--output PAGE]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_fl.errors import ConfigError
from lightning_fl.results.compare.comparison import write_comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, and print its path.

    Args:
        arguments: the command line without the program's name; None takes that of the process.

    Returns:
        The exit status: 0 for success, 2 for runs that cannot be compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fl.results.compare",
        description="Compare finished runs on one page: scores, settings and costs.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="the folder of a run")
    parser.add_argument("--output", type=Path, default=Path("compare.html"), help="the page")
    options = parser.parse_args(arguments)
    try:
        write_comparison(options.runs, options.output)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{options.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
