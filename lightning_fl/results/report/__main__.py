"""Write the report of a run again: `python -m lightning_fl.results.report RUN`."""

import argparse
from pathlib import Path

from lightning_fl.results.report.report import write_report


def main() -> None:
    """Rewrite the report of the run named on the command line."""
    parser = argparse.ArgumentParser(description="Write report.html again from a run's files.")
    parser.add_argument("run", type=Path, help="the run's folder")
    write_report(parser.parse_args().run)


if __name__ == "__main__":
    main()
