"""Personalised, private federated learning for medical images on PyTorch Lightning.

The names below are what a researcher extends or calls. Everything else is imported from its room,
e.g. `lightning_fl.algorithms.FedAvg` or `lightning_fl.personalisation.FineTune`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fl.aggregation import Aggregator as Aggregator
    from lightning_fl.algorithms import Algorithm as Algorithm
    from lightning_fl.algorithms.callback import FederatedCallback as FederatedCallback
    from lightning_fl.data.module import FederatedDataModule as FederatedDataModule
    from lightning_fl.engines import Engine as Engine
    from lightning_fl.errors import ConfigError as ConfigError
    from lightning_fl.errors import DataError as DataError
    from lightning_fl.personalisation import Candidate as Candidate
    from lightning_fl.predict.finished_run import FinishedRun as FinishedRun
    from lightning_fl.predict.finished_run import load as load
    from lightning_fl.run.experiment import Experiment as Experiment
    from lightning_fl.run.fit import fit as fit
    from lightning_fl.run.run import Run as Run

__version__ = "0.2.0"

_HOMES = {
    "Aggregator": "lightning_fl.aggregation",
    "Algorithm": "lightning_fl.algorithms",
    "Candidate": "lightning_fl.personalisation",
    "ConfigError": "lightning_fl.errors",
    "DataError": "lightning_fl.errors",
    "Engine": "lightning_fl.engines",
    "Experiment": "lightning_fl.run.experiment",
    "FederatedCallback": "lightning_fl.algorithms.callback",
    "FederatedDataModule": "lightning_fl.data.module",
    "FinishedRun": "lightning_fl.predict.finished_run",
    "Run": "lightning_fl.run.run",
    "fit": "lightning_fl.run.fit",
    "load": "lightning_fl.predict.finished_run",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that a small part does not load all of torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
