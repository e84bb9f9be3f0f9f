"""What a logger of a whole run has beside Lightning's methods: its place, and the final scores."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_fl.errors import ConfigError


class RunLogger:
    """Adds to a Lightning logger what a run does with its loggers."""

    def bind(self, run: Path, id: str) -> object:
        """Put the logger's files into the run's folder, before anything is logged.

        Args:
            run: folder of the run.
            id: of the run. It is the same after a resume, so what is logged then goes on.
        """
        raise NotImplementedError

    def log_results(self, results: Mapping[str, Any], run: Path) -> None:
        """Log the final scores once more in a form of its own; by default nothing.

        Args:
            results: what results.json holds.
            run: folder of the run, with what the sites left there.
        """


def require_packages(logger: str, extra: str, *packages: str) -> None:
    """Refuse a logger whose packages are not installed.

    Raises:
        ConfigError: names the packages and the extra that installs them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"The logger {logger} needs {' and '.join(missing)}, which this Python does not have. "
            f'Install it by `pip install -e ".[{extra}]"`, or leave the logger out.'
        )
