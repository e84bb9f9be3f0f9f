"""Settings of all tests: one thread, no word from Lightning, no clock, and cheap toys."""

import functools
import gc
import importlib.metadata
import logging
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
torch.set_num_threads(1)  # two test processes share two cores
# a busy machine must not fail a test
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.fixture(scope="session", autouse=True)
def _lightning_reads_the_installed_packages_once() -> Iterator[None]:
    """Every Trainer asks all installed packages for callbacks; a toy run makes fifty Trainers."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(importlib.metadata.entry_points)
        patch.setattr("lightning_fabric.utilities.registry.entry_points", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _runs_leave_the_garbage_collector_alone() -> Iterator[None]:
    """Each run of the Local engine would look through all that the libraries hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_fl.engines.local.set_libraries_aside", lambda: None)
        yield
    gc.unfreeze()  # Python's end would complain of what it cannot free


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_found_quickly() -> None:
    """Set aside what is there, once for all runs of a module, as each of them would."""
    gc.collect()
    gc.freeze()
