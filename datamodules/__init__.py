"""Datasets of several hospitals, each one LightningDataModule at a time."""

from datamodules.image_folder import ImageFolder as ImageFolder
from datamodules.phantoms import ChestPhantoms as ChestPhantoms
