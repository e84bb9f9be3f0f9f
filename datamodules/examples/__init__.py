"""Makers of small data in the formats that the paper's two tasks are kept in."""

from datamodules.examples.covid import COVID
from datamodules.examples.example import Amount as Amount
from datamodules.examples.example import Example as Example
from datamodules.examples.rad import RAD

EXAMPLES = {"rad": RAD, "covid": COVID}
"""By the name on the command line of `python -m lightning_fl.make_example`."""
