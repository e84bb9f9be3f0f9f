"""How the numbers of a scan become what a net sees."""

from datamodules.normalisation.base import Normalisation as Normalisation
from datamodules.normalisation.percentiles import Percentiles as Percentiles
from datamodules.normalisation.unchanged import Unchanged as Unchanged
from datamodules.normalisation.window import Window as Window
from datamodules.normalisation.z_score import SiteZScore as SiteZScore
from datamodules.normalisation.z_score import ZScore as ZScore
