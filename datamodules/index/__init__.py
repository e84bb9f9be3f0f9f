"""Which rows of a data set are which hospital, patient, image, target and part."""

from datamodules.index.datalist import Datalist as Datalist
from datamodules.index.datalist import Decathlon as Decathlon
from datamodules.index.folders import Folders as Folders
from datamodules.index.index import Index as Index
from datamodules.index.medmnist import MedMnist as MedMnist
from datamodules.index.nnunet import NnUnet as NnUnet
from datamodules.index.row import Row as Row
from datamodules.index.table import Table as Table
