"""Attacks on what the parties of a federation see, and what they bring to light."""

from lightning_fl.privacy.audit import Audit as Audit
from lightning_fl.privacy.dlg import dlg as dlg
from lightning_fl.privacy.gradients import TaskGradient as TaskGradient
from lightning_fl.privacy.gradients import mean_gradient as mean_gradient
from lightning_fl.privacy.idlg import idlg as idlg
from lightning_fl.privacy.image_scores import image_scores as image_scores
from lightning_fl.privacy.inverting import invert_gradient as invert_gradient
from lightning_fl.privacy.local_steps import LocalSteps as LocalSteps
from lightning_fl.privacy.matching import Matching as Matching
from lightning_fl.privacy.matching import Reconstruction as Reconstruction
from lightning_fl.privacy.targets import HiddenLabel as HiddenLabel
from lightning_fl.privacy.targets import HiddenMask as HiddenMask
from lightning_fl.privacy.targets import Known as Known
