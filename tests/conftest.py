"""Settings of all tests: one thread, no word from Lightning, no clock for hypothesis."""

import logging

import torch
from hypothesis import HealthCheck, settings

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
torch.set_num_threads(1)  # two test processes share two cores
# a busy machine must not fail a test
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")
