"""TensorBoard: the metrics of every site over the rounds, in the run's folder."""

from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from lightning_fl.results.run_logger import RunLogger, require_packages


class FederationTensorBoardLogger(RunLogger, TensorBoardLogger):
    """Logs every round's metrics to RUN/tensorboard, with the round as the step.

    See them by `tensorboard --logdir RUN/tensorboard`, or several runs by the folder above them.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self) -> None:
        require_packages(type(self).__name__, "tensorboard", "tensorboard")
        super().__init__(save_dir="", name="", version="tensorboard", default_hp_metric=False)

    def bind(self, run: Path, id: str) -> None:
        """Write to `run`/tensorboard. A resumed run adds a file there."""
        self._root_dir = str(run)
