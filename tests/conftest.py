"""Settings of all tests: one thread, no word from Lightning and no clock."""

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
def _libraries_stay_set_aside() -> Iterator[None]:
    """The Local engine sets aside what is there, and looks through it all after each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield
    gc.unfreeze()  # Python's end complains of what it cannot free
