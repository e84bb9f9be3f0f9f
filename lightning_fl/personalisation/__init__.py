"""How a site makes the finished global model its own: candidates, and the guard that chooses."""

from lightning_fl.personalisation.batch_norm_reestimation import (
    BatchNormReestimation as BatchNormReestimation,
)
from lightning_fl.personalisation.candidate import Candidate as Candidate
from lightning_fl.personalisation.candidate import Variant as Variant
from lightning_fl.personalisation.ensemble import Ensemble as Ensemble
from lightning_fl.personalisation.fine_tune import FineTune as FineTune
from lightning_fl.personalisation.interpolate import Interpolate as Interpolate
from lightning_fl.personalisation.local_model import LocalModel as LocalModel
from lightning_fl.personalisation.mirror import Mirror as Mirror
from lightning_fl.personalisation.settings import Personalisation as Personalisation
