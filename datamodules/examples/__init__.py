"""Makers of small data: in the formats of the paper's two tasks, and in published layouts."""

from datamodules.examples.covid import COVID
from datamodules.examples.example import Amount as Amount
from datamodules.examples.example import ExampleData as ExampleData
from datamodules.examples.example import claim as claim
from datamodules.examples.images import IMAGES
from datamodules.examples.layouts import LAYOUTS
from datamodules.examples.rad import RAD

EXAMPLES = {"rad": RAD, "covid": COVID, "images": IMAGES} | LAYOUTS
"""By the name on the command line of `python -m datamodules.examples`."""
