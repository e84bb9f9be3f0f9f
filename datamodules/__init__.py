"""Datasets of several hospitals, each one LightningDataModule at a time."""

from datamodules.ct.folder import CTFolder as CTFolder
from datamodules.image_folder import ImageFolder as ImageFolder
from datamodules.labelled_phantoms import LabelledPhantoms as LabelledPhantoms
from datamodules.phantoms import ChestPhantoms as ChestPhantoms
from datamodules.rad_chest.data_module import RadChestCT as RadChestCT
