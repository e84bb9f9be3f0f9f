"""LightningModules around any network, their losses and metrics."""

from models.classification import Classification as Classification
from models.losses import DiceCrossEntropy as DiceCrossEntropy
from models.segmentation import Segmentation as Segmentation
