"""Hospitals made of one data set, to try methods on data that has none."""

from datamodules.partition.by_column import ByColumn as ByColumn
from datamodules.partition.by_size import BySize as BySize
from datamodules.partition.dirichlet import Dirichlet as Dirichlet
