"""Datasets of several hospitals, each one LightningDataModule at a time."""

from datamodules.images.image_folder import ImageFolder as ImageFolder
from datamodules.images.images import Images as Images
from datamodules.index import Datalist as Datalist
from datamodules.index import Decathlon as Decathlon
from datamodules.index import Folders as Folders
from datamodules.index import MedMnist as MedMnist
from datamodules.index import NnUnet as NnUnet
from datamodules.index import Table as Table
from datamodules.partition import ByColumn as ByColumn
from datamodules.partition import BySize as BySize
from datamodules.partition import Dirichlet as Dirichlet
from datamodules.phantoms.chest_phantoms import ChestPhantoms as ChestPhantoms
from datamodules.phantoms.labelled_phantoms import LabelledPhantoms as LabelledPhantoms
from datamodules.rad_chest.data_module import RadChestCT as RadChestCT
from datamodules.targets import ClassNumbers as ClassNumbers
from datamodules.targets import Labels as Labels
from datamodules.targets import MaskMap as MaskMap
from datamodules.targets import Regions as Regions
from datamodules.targets import Threshold as Threshold
from datamodules.tensor_hospitals import TensorHospitals as TensorHospitals
from datamodules.volumes.ct_folder import CTFolder as CTFolder
from datamodules.volumes.volumes import Volumes as Volumes
