"""Datasets of several hospitals, each one LightningDataModule at a time."""

from datamodules.ct.ct_folder import CTFolder as CTFolder
from datamodules.images.image_folder import ImageFolder as ImageFolder
from datamodules.phantoms.chest_phantoms import ChestPhantoms as ChestPhantoms
from datamodules.phantoms.labelled_phantoms import LabelledPhantoms as LabelledPhantoms
from datamodules.rad_chest.data_module import RadChestCT as RadChestCT
from datamodules.tensor_hospitals import TensorHospitals as TensorHospitals
