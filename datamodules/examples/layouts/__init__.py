"""Tiny data in the layouts in which others publish theirs; docs/recipes.md trains on each."""

from datamodules.examples.layouts.labelled import LABELLED
from datamodules.examples.layouts.pictures import PICTURES
from datamodules.examples.layouts.scans import SCANS

LAYOUTS = PICTURES | SCANS | LABELLED
"""By the name on the command line of `python -m datamodules.examples`."""
