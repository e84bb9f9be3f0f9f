"""What a net shall predict, made of the numbers in mask files or of labels."""

from datamodules.targets.class_numbers import ClassNumbers as ClassNumbers
from datamodules.targets.labels import Labels as Labels
from datamodules.targets.mask_map import MaskMap as MaskMap
from datamodules.targets.regions import Regions as Regions
from datamodules.targets.target import LabelTarget as LabelTarget
from datamodules.targets.target import MaskTarget as MaskTarget
from datamodules.targets.target import Target as Target
from datamodules.targets.threshold import Threshold as Threshold
