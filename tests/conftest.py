"""Settings of all tests: one thread, and no word from Lightning about each Trainer."""

import logging

import torch

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
torch.set_num_threads(1)  # two test processes share two cores
